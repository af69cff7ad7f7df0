"""Scrapes of vLLM's /metrics: one or many, plain or as texts in JSON lines."""

from __future__ import annotations

import math
import re

from lbal.analyzers.trace.reading.base import LogReader, ReadOptions
from lbal.analyzers.trace.reading.log_lines import MANGLED
from lbal.analyzers.trace.reading.prometheus import Sample, Scrape, scrapes
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.reading.vllm_log import BARRIER_DEPENDS, WITH_PREFILL
from lbal.analyzers.trace.source import Source

WANTED = re.compile(
    r"(?:ray_)?vllm[:_](num_requests_running|num_requests_waiting|kv_cache_usage_perc|gpu_cache_usage_perc|cache_config_info)"
)
RANK = "engine"
COLUMN = {
    "num_requests_running": "num_running",
    "num_requests_waiting": "num_waiting",
    "kv_cache_usage_perc": "kv_fraction",
    "gpu_cache_usage_perc": "kv_fraction",
}
SAMPLES = "a scrape is one look at the load: load over time, no claim on single steps; every step: {}"
ITERATIONS = "--enable-logging-iteration-details (vLLM 0.14.1 or later)"


class VllmPrometheusReader(LogReader):
    """Scrapes of vLLM's `/metrics` (`vllm:num_requests_running{engine="3"}` …): requests and KV use of each engine.

    A series that a scrape does not have is unknown, not 0.
    """

    name = "vllm-prometheus"
    time_unit = "s"
    engine = "vllm"
    title = "a file of scrapes of vLLM's /metrics"
    signature = re.compile(rb"vllm[:_](?:num_requests_running|kv_cache_usage_perc|gpu_cache_usage_perc)\{")
    alignment = "step"
    resolution = "sampled"
    numbers_steps = ITERATIONS

    @classmethod
    def why_empty(cls, source: Source) -> str | None:
        """A scrape of vLLM without the load of an engine."""
        if re.search(rb"^(?:# \w+ )?vllm:\w+", source.wide_head, re.MULTILINE):
            return "is a scrape of vLLM without vllm:num_requests_running: scrape all of /metrics of the API server"
        return None

    def collect(self, source: Source, records: RankStepsBuilder, options: ReadOptions) -> None:
        """Each scrape is a step of all engines that it has."""
        mangled: list[int] = []
        ranks: set[int | None] = set()
        timed = untimed = 0
        for number, scrape in enumerate(scrapes(source, WANTED, mangled)):
            _learn_capacity(scrape, records)
            for rank, values in _by_rank(scrape, records).items():
                ranks.add(rank)
                timed += scrape.time_ms is not None
                untimed += scrape.time_ms is None
                records.add(line=scrape.line, rank=rank, step=number, time_ms=scrape.time_ms, **values)
        records.skip(MANGLED, len(mangled))
        records.note(SAMPLES.format(ITERATIONS))
        records.note(WITH_PREFILL)
        if len(ranks) == 1 and timed and not untimed:
            records.alignment = "time"  # other ranks may be in other files, whose scrapes are not numbered alike
        if len(ranks) > 1:
            records.note(BARRIER_DEPENDS)
        if not (records.facts.kv_capacity_tokens or options.kv_capacity):
            records.note(
                "KV use is told as a share: tokens are n/a without vllm:cache_config_info with its num_gpu_blocks in "
                "the scrape, or --kv-capacity"
            )


def _by_rank(scrape: Scrape, records: RankStepsBuilder) -> dict[int | None, dict[str, float]]:
    found: dict[int | None, dict[str, float]] = {}
    for sample in scrape.samples:
        column = COLUMN.get(_kind(sample))
        if column is None or not math.isfinite(sample.value):
            continue
        if sample.is_broken(RANK):
            records.skip(MANGLED)
            continue
        values = found.setdefault(sample.number(RANK), {})
        if column in values:
            records.note("a scrape has several series of one engine (models, servers): the last one counts")
        values[column] = sample.value
    return found


def _learn_capacity(scrape: Scrape, records: RankStepsBuilder) -> None:
    for sample in scrape.samples:
        if _kind(sample) == "cache_config_info" and not sample.is_broken(RANK):
            size, blocks = (sample.number(name) or 0 for name in ("block_size", "num_gpu_blocks"))
            if size * blocks:
                records.facts.kv_capacity_tokens[sample.number(RANK)] = size * blocks


def _kind(sample: Sample) -> str:
    found = WANTED.fullmatch(sample.name)
    return found[1] if found else ""
