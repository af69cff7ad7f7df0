"""Scrapes of SGLang's /metrics, and of /v1/loads?format=prometheus: one or many, plain or as texts in JSON lines."""

from __future__ import annotations

import math
import re

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.prometheus import Sample, Scrape, scrapes
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.reading.sglang_barrier import PREFIX, BarrierMetrics
from lbal.analyzers.trace.reading.sglang_log import EVERY_STEP
from lbal.analyzers.trace.source import Source

WANTED = re.compile(
    r"(?:ray_)?sglang[:_]("
    r"num_(?:running|queue|waiting)_reqs|num_used_tokens|kv_used_tokens|decode_sum_seq_lens|token_usage|max_total_num_tokens"
    r"|max_running_requests|gen_throughput|spec_accept_length"
    rf"|{PREFIX}(?:tokens_total|pairs_total|steps_total|(?:token_imbalance_ratio|sync_wait_seconds)_(?:bucket|sum|count))"
    r")"
)
COLUMN = {
    "num_running_reqs": "num_running",
    "num_queue_reqs": "num_waiting",
    "num_waiting_reqs": "num_waiting",
    "token_usage": "kv_fraction",
}
TOKENS = ("num_used_tokens", "kv_used_tokens", "decode_sum_seq_lens")
MANGLED = "series that cannot be read"
SAMPLES = (
    "a scrape is one look at the load, and SGLang renews it every 40 decode passes of a rank (--decode-log-interval) "
    "and every 30 s while the rank has no work: load over time, no claim on single steps; every step: {}"
)
THROUGHPUT = (
    "step times are running requests * accept length / gen_throughput: about right while the batch stays the same"
)
ONE_RANK = (
    "only one rank is in the scrapes: under DP attention the other ranks export theirs with "
    "--enable-metrics-for-all-schedulers"
)
OWN = "SGLang's own barrier metrics are not in the scrapes: SGLANG_ENABLE_METRICS_DP_ATTENTION=1 (0.5.22 or later)"
SHARES = (
    "KV use is told as a share (sglang:token_usage) and no series tells tokens: they are n/a without "
    "sglang:max_total_num_tokens in the scrape, or --kv-capacity"
)
COPIES = "series of one rank stand there for several of its processes (tp_rank, pp_rank): those of the first count"


class SglangPrometheusReader(LogReader):
    """Scrapes of SGLang's `/metrics` (`sglang:num_running_reqs{dp_rank="3"}` …): requests and KV tokens of each rank.

    A series that a scrape does not have is unknown, not 0. SGLang's own barrier metrics are told beside lbal's.
    """

    name = "sglang-prometheus"
    time_unit = "s"
    engine = "sglang"
    title = "a file of scrapes of SGLang's /metrics"
    signature = re.compile(rb"sglang[:_](?:num_running_reqs|num_used_tokens)(?:\{| [\d.])")
    alignment = "step"
    resolution = "sampled"
    numbers_steps = EVERY_STEP

    @classmethod
    def why_empty(cls, source: Source) -> str | None:
        """A scrape of SGLang without the load of a rank."""
        if re.search(rb"^(?:# \w+ )?sglang:\w+", source.wide_head, re.MULTILINE):
            return "is a scrape of SGLang without sglang:num_running_reqs: start the server with --enable-metrics"
        return None

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """Each scrape is a step of all ranks that it has."""
        mangled: list[int] = []
        ranks: set[int | None] = set()
        barrier = BarrierMetrics()
        timed = count = shares = tokens = 0
        for number, scrape in enumerate(scrapes(source, WANTED, mangled)):
            count += 1
            timed += scrape.time_ms is not None
            barrier.begin_scrape(scrape.time_ms)
            for rank, series in _by_rank(scrape, records, barrier).items():
                _learn(series, rank, records)
                if values := _values(series, records):
                    ranks.add(rank)
                    shares, tokens = shares + ("kv_fraction" in values), tokens + ("kv_tokens" in values)
                    records.add(line=scrape.line, rank=rank, step=number, time_ms=scrape.time_ms, **values)
        records.skip(MANGLED, len(mangled))
        records.note(SAMPLES.format(EVERY_STEP))
        if shares and not (tokens or records.facts.kv_capacity_tokens or options.kv_capacity):
            records.note(SHARES)
        if len(ranks) == 1:
            records.note(ONE_RANK)
            if timed == count:
                records.alignment = "time"  # other ranks may be in other files, whose scrapes are not numbered alike
        _tell(barrier, records)


def _tell(barrier: BarrierMetrics, records: RankStepsBuilder) -> None:
    figures = barrier.record()
    if figures:
        records.facts.config["sglang_barrier_metrics"] = figures
    for note in barrier.notes():
        records.note(note)
    if not figures:
        records.note(OWN)


def _by_rank(scrape: Scrape, records: RankStepsBuilder, barrier: BarrierMetrics) -> dict[int | None, dict[str, float]]:
    """The series of each rank by kind. SGLang's processes of one rank export the same: the first one counts."""
    found: dict[int | None, dict[str, float]] = {}
    for sample in sorted(scrape.samples, key=_process):
        kind, rank = _kind(sample), sample.number("dp_rank")
        if sample.is_broken("dp_rank"):
            records.skip(MANGLED)
        elif kind.startswith(PREFIX):
            barrier.see(kind.removeprefix(PREFIX), sample, rank)
        elif math.isfinite(sample.value) and not sample.labels.get("priority"):
            series = found.setdefault(rank, {})
            if kind in series:
                records.note(COPIES)
            series.setdefault(kind, sample.value)
    return found


def _values(series: dict[str, float], records: RankStepsBuilder) -> dict[str, float]:
    """What a look at a rank says; nothing where its load is not there."""
    values = {COLUMN[kind]: value for kind, value in series.items() if kind in COLUMN}
    tokens = next((series[kind] for kind in TOKENS if kind in series), None)
    if tokens is not None:
        values["kv_tokens"] = tokens
    if not values.keys() & {"num_running", "kv_tokens", "kv_fraction"}:
        return {}
    running, throughput = values.get("num_running", 0.0), series.get("gen_throughput", 0.0)
    if throughput > 0 < running:
        records.note(THROUGHPUT)
        values["step_ms"] = running * max(series.get("spec_accept_length", 1.0), 1.0) / throughput * 1e3
    return values


def _learn(series: dict[str, float], rank: int | None, records: RankStepsBuilder) -> None:
    if series.get("max_total_num_tokens", 0) >= 1:
        records.facts.kv_capacity_tokens[rank] = int(series["max_total_num_tokens"])
    if series.get("max_running_requests", 0) >= 1:
        records.facts.max_num_seqs = int(series["max_running_requests"])


def _process(sample: Sample) -> tuple[int, int]:
    """Which process of a rank exports the sample."""
    return sample.number("pp_rank") or 0, sample.number("tp_rank") or 0


def _kind(sample: Sample) -> str:
    found = WANTED.fullmatch(sample.name)
    return found[1] if found else ""
