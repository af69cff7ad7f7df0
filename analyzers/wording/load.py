"""Whether a replay leaves its ranks mostly empty or hopelessly overloaded, what binds, and the switch for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.numbers import count, percent

EMPTY_SLOT_USE = 0.25
FULL_KV_USE = 0.5
"""From this share of the KV tokens on, KV memory is what keeps slots empty."""
FOLLOWED = 0.9
"""A rate of at least this share of the suggested one has followed the suggestion."""
CROWDED_WAIT_SHARE = 0.2
"""A queue that still holds requests this share of the run after the last arrival marks an overload."""


@dataclass(frozen=True)
class Pace:
    """How fast requests arrive at times, and how fast they would have to, for most slots to be taken."""

    span_ms: float
    """From the first arrival to the last."""
    rate: float
    """As it was asked for: a scale, or requests per second."""
    suggested: float
    """The rate, in the same unit, that is estimated to load the ranks."""
    switch: str
    """The option that asks for a rate, with a place for it."""
    of_trace: bool
    """Whether the times are those of the trace; they are drawn otherwise."""

    @property
    def advice(self) -> str:
        """The option that asks for the suggested rate."""
        return self.switch.format(self.suggested)


def load_notes(
    runs: Sequence[Run],
    config: Mapping[str, Any],
    *,
    requests: int,
    most_slot_use: float,
    most_running: int,
    pace: Pace | None,
    slots_were_filled: bool,
) -> list[str]:
    """Whether the ranks are mostly empty or hopelessly overloaded, what binds, and the switch for it.

    `most_slot_use` is the slot use that no rate exceeds: it is low for few requests, or short ones beside a long one;
    `most_running` the requests that the arrivals let run at once. `pace` is None where requests join as others
    leave; with `slots_were_filled` the slots are known to be busy up to the drain. What was advised and followed is not
    advised again.
    """
    first = runs[0]
    use = first.metrics["slot_use"].value
    if use < EMPTY_SLOT_USE:
        slots = config["dp_size"] * config["max_num_seqs"]
        kv_use = first.metrics["kv_use"].value if "kv_use" in first.metrics else 0.0
        if kv_use >= FULL_KV_USE:
            return [
                f"KV memory binds, not slots: requests hold {percent(kv_use)} of the KV tokens on average and "
                f"{percent(use)} of the slots ({first.label})"
            ]
        if most_slot_use < EMPTY_SLOT_USE:
            many = count(requests, "request")
            return [
                f"{many} cannot fill {slots:,} slots at any rate: at most {percent(most_slot_use)} are taken on average"
            ]
        if most_running < slots / 2:
            return [
                f"the ranks are mostly empty: {percent(use)} of the slots are taken on average, since no more than "
                f"{count(most_running, 'request')} are in flight for {slots:,} slots; try --arrivals "
                f"closed:{round(0.8 * slots)} for a loaded system"
            ]
        return _of_empty_ranks(first, None if slots_were_filled else pace)
    return [] if pace is None or slots_were_filled else _of_overload(first, pace)


def _of_empty_ranks(first: Run, pace: Pace | None) -> list[str]:
    use = first.metrics["slot_use"].value
    if pace is None:
        return [
            f"the ranks are mostly empty: {percent(use)} of the slots are taken on average, since all requests are "
            "soon admitted and the rest is drain; --window admissions leaves the drain "
            "out, and says how little of the run is left"
        ]
    if pace.rate >= FOLLOWED * pace.suggested:
        return []
    others = ", --slot-use 0.8 to find the scale exactly" if pace.of_trace else ""
    return [
        f"the ranks are mostly empty: {percent(use)} of the slots are taken on average ({first.label}), so balance "
        f"hardly matters; try {pace.advice} for a loaded system{others}, or --arrivals backlog"
    ]


def _of_overload(first: Run, pace: Pace) -> list[str]:
    use, makespan_ms = first.metrics["slot_use"].value, first.metrics["makespan_s"].value * 1e3
    overrun = makespan_ms / pace.span_ms - 1 if pace.span_ms > 0 else float("inf")
    if not (overrun > CROWDED_WAIT_SHARE and use > 1 - EMPTY_SLOT_USE and pace.suggested < pace.rate):
        return []
    whose = "the trace's duration after it ends" if pace.of_trace else "the duration of the arrivals after the last one"
    return [
        f"the ranks are overloaded: requests queue up, and the last is served {percent(overrun)} of {whose} "
        f"({first.label}), so waits measure the length of the trace; try {pace.advice}, more --dp-size or "
        "--max-num-seqs, or --arrivals backlog to study saturation"
    ]
