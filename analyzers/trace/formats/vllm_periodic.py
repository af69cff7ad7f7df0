"""vLLM's statistics every 10 s: one line per engine, which is a DP rank."""

from __future__ import annotations

import re

import numpy as np

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.log_lines import MANGLED, mangled
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder, numbers
from lbal.analyzers.trace.reading.vllm_log import BARRIER_DEPENDS, WITH_PREFILL, VllmLog
from lbal.analyzers.trace.source import Source

LOOKS_LIKE_ONE = re.compile(rb"(?<!Aggregated: )Avg prompt throughput: ")
MARK = b"Avg prompt throughput: "
LINE = re.compile(
    rb"^([^\n]*?)Avg prompt throughput: (?<!Aggregated: Avg prompt throughput: )\d[\d.]{0,20} tokens/s, "
    rb"Avg generation throughput: \d{1,12}\.\d{1,4} tokens/s, Running: (\d{1,9}) reqs, "
    rb"(?:Swapped: \d{1,9} reqs, )?(?:Waiting|Pending): (\d{1,9}) reqs"
    rb"(?:[^\n%(\[]{0,300}?(?<!CPU) KV cache usage: (\d{1,3}\.\d{1,4})%)?",
    re.MULTILINE,
)
AGGREGATED = re.compile(rb"(\d{1,4}) Engines Aggregated: Avg prompt throughput: ")
RUST = re.compile(rb"Avg prompt tput: [\d.]+ toks/s, Avg generation tput: ")
MANY_API_SERVERS = re.compile(rb"api_server_count more than 1; disabling stats logging")
VLLM = re.compile(rb"(?:EngineCore|APIServer)\w{0,16} pid=\d|vllm[./]|vLLM API server|LLM engine \(v")
ITERATIONS = "--enable-logging-iteration-details (vLLM 0.14.1 or later; 0.26.0 or later with KV use)"
SAMPLES = (
    "vLLM's statistics are one look every 10 s (VLLM_LOG_STATS_INTERVAL): load over time, no claim on single steps; "
    f"every step: {ITERATIONS}"
)
ONLY_SUMS = "lines that are sums of all engines (--aggregate-engine-logging)"


class VllmPeriodicReader(LogReader):
    """vLLM's statistics every 10 s (`Engine 003: Avg prompt throughput …`): running and waiting requests, KV use.

    A rank that was silent is not told, never 0: vLLM stops printing an engine that is idle twice.
    """

    name = "vllm-periodic"
    time_unit = "s"
    engine = "vllm"
    title = "a vLLM log with its statistics of every 10 s"
    signature = LOOKS_LIKE_ONE
    alignment = "time"
    resolution = "sampled"
    numbers_steps = ITERATIONS
    precedence = 1

    @classmethod
    def why_empty(cls, source: Source) -> str | None:
        """A log of vLLM in which no engine has lines of its own."""
        if sums := AGGREGATED.search(source.wide_head):
            problem = f"is a vLLM log that sums up its {int(sums[1])} engines: what a rank did is lost"
            return f"{problem}; start the server without --aggregate-engine-logging"
        if RUST.search(source.wide_head):
            problem = "is a log of vLLM's Rust frontend (VLLM_USE_RUST_FRONTEND=1), which sums up all engines"
            return f"{problem}: scrape /metrics, which has each engine, or start the server without it"
        if MANY_API_SERVERS.search(source.wide_head):
            problem = "is a vLLM log of a server with several API servers, which print no statistics"
            return f"{problem}: start the server with --api-server-count 1, and {ITERATIONS} for every step"
        if VLLM.search(source.wide_head):
            problem = "is a vLLM log without a line on the load of an engine"
            switches = f"start the server with {ITERATIONS}, --api-server-count 1, no --disable-log-stats"
            return f"{problem}: {switches}, and a log level of INFO"
        return None

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """The samples of all engines that write to this log."""
        log = VllmLog(records)
        ranks: set[float] = set()
        has_kv = False
        records.note(SAMPLES)
        records.note(WITH_PREFILL)
        for data in log.parts(source):
            sums = AGGREGATED.findall(data)
            records.skip(ONLY_SUMS, len(sums))
            found = [groups for groups in LINE.findall(data) if MARK not in groups[0]]
            log.learn(data, len(found))
            records.skip(MANGLED, mangled(data, (MARK, b" tokens/s, Running: "), len(found) + len(sums)))
            if not found:
                continue
            heads, running, waiting, kv = zip(*found, strict=True)
            places = log.places(heads)
            ranks |= {value for value in np.unique(places["rank"]) if not np.isnan(value)}
            has_kv |= any(kv)
            records.extend(
                {
                    **places,
                    "num_running": numbers(running),
                    "num_waiting": numbers(waiting),
                    "kv_fraction": numbers(kv) / 100,
                }
            )
        if has_kv and not (records.facts.kv_capacity_tokens or options.kv_capacity):
            records.note(
                "KV use is told in per cent, and not what fits on a rank: tokens are n/a without the start of the "
                "server in the log (`GPU KV cache size: N tokens`) or --kv-capacity"
            )
        if not ranks:
            records.note("the lines have no engine index, as those of vLLM's first engine (V0): they are of one rank")
        if len(ranks) > 1 and not log.has_experts:
            records.note(BARRIER_DEPENDS)
