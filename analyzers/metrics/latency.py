"""The metrics of requests: latency and waiting. Computed by `analyzers/requests/latency.py`."""

from __future__ import annotations

from collections.abc import Mapping

from lbal.analyzers.metrics.metric import Metric, Place
from lbal.analyzers.requests.latency import PARTS

BANDED = ("tpot_ms_mean", "tpot_ms_p99")
ONLY_IN_JSON = ("tpot_after_first_ms_p50", "ttft_ms_p90", "e2e_ms_p50", "e2e_ms_p95", "longest_gap_ms_p50")
"""Figures that tables of all metrics leave out, as others say nearly the same."""
SHOWN: dict[str, Mapping[Place, int]] = {
    "tpot_ms_mean": {"comparison": 50, "page_rows": 40, "markdown_rows": 30, "bands": 20},
    "tpot_ms_p99": {"comparison": 60, "page_tiles": 30, "page_rows": 50, "markdown_rows": 40},
    "ttft_ms_p50": {"comparison": 66},
    "ttft_ms_p99": {"comparison": 67},
    "queue_wait_ms_p99": {"comparison": 70, "page_tiles": 40, "page_rows": 60, "markdown_rows": 50},
    "queue_wait_ms_max": {"comparison": 80, "page_rows": 70, "markdown_rows": 60},
    "queue_wait_steps_max": {"comparison": 90},
}


def distribution(name: str, label: str, unit: str, what: str, parts: tuple[str, ...]) -> list[Metric]:
    """The records of some parts (`mean`, `max`, `p50`, …) of a distribution over requests."""
    return [
        Metric(
            f"{name}_{part}",
            unit,
            "lower",
            f"{label} {part}",
            f"{part} over requests of {what}",
            rests_on=("requests",),
            banded=f"{name}_{part}" in BANDED,
            group="latency",
            shown=SHOWN.get(f"{name}_{part}", {}),
            in_tables_of_all=f"{name}_{part}" not in ONLY_IN_JSON,
        )
        for part in parts
    ]


WHAT = {
    "tpot_ms": ("TPOT", "ms/token", "(finish - admission) / output tokens"),
    "tpot_after_first_ms": (
        "TPOT after the first token",
        "ms/token",
        "(finish - first token) / (output tokens - 1), for those of more than one token",
    ),
    "ttft_ms": ("TTFT", "ms", "first token - arrival"),
    "e2e_ms": ("end-to-end latency", "ms", "finish - arrival"),
    "longest_gap_ms": ("longest token gap", "ms", "the longest time between two of a request's tokens"),
    "queue_wait_ms": ("queue wait", "ms", "admission - arrival"),
}
"""Label, unit and formula of each latency."""
LATENCY = [
    *(metric for name, parts in PARTS.items() for metric in distribution(name, *WHAT[name], parts)),
    *(
        Metric(
            f"itl_ms_p{rank}",
            "ms",
            "lower",
            f"inter-token latency p{rank}",
            f"p{rank} over all times between two consecutive tokens of a request, of all requests together",
            rests_on=("requests",),
            group="latency",
            in_tables_of_all=rank == 99,
        )
        for rank in (50, 99)
    ),
    *distribution("queue_wait_steps", "queue wait", "steps", "steps between arrival and admission", ("p99", "max")),
    Metric(
        "goodput_fraction",
        "fraction",
        "higher",
        "goodput, share of requests",
        "requests that meet every limit of --slo / requests",
        rests_on=("requests",),
        group="latency",
        shown={"comparison": 64, "page_rows": 52, "markdown_rows": 42},
    ),
    Metric(
        "goodput_requests_per_second",
        "requests/s",
        "higher",
        "goodput",
        "requests that meet every limit of --slo / (end of the last step - start of the first)",
        rests_on=("requests", "step_times"),
        group="latency",
        shown={"comparison": 65},
    ),
]
