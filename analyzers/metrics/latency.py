"""The metrics of requests: latency and waiting. Computed by `analyzers/requests/latency.py`."""

from __future__ import annotations

from collections.abc import Mapping

from lbal.analyzers.metrics.metric import Metric, Place

BANDED = ("tpot_ms_mean", "tpot_ms_p99")
SHOWN: dict[str, Mapping[Place, int]] = {
    "tpot_ms_mean": {"comparison": 50, "page_rows": 40, "markdown_rows": 30, "bands": 20},
    "tpot_ms_p99": {"comparison": 60, "page_tiles": 30, "page_rows": 50, "markdown_rows": 40},
    "queue_wait_ms_p99": {"comparison": 70, "page_tiles": 40, "page_rows": 60, "markdown_rows": 50},
    "queue_wait_ms_max": {"comparison": 80, "page_rows": 70, "markdown_rows": 60},
    "queue_wait_steps_max": {"comparison": 90},
}


def distribution(name: str, unit: str, label: str, what: str, parts: tuple[str, ...]) -> list[Metric]:
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
        )
        for part in parts
    ]


LATENCY = [
    *distribution(
        "tpot_ms",
        "ms/token",
        "TPOT",
        "(finish - admission) / output tokens",
        ("mean", "p50", "p95", "p99"),
    ),
    *distribution("ttft_ms", "ms", "TTFT", "first token - arrival", ("mean", "p50", "p95", "p99")),
    *distribution("queue_wait_ms", "ms", "queue wait", "admission - arrival", ("p50", "p99", "max")),
    *distribution("queue_wait_steps", "steps", "queue wait", "steps between arrival and admission", ("p99", "max")),
]
