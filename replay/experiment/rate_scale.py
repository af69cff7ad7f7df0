"""How loaded a cluster is under a workload: estimated before anything is replayed, or found by replays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from lbal.analyzers.barrier.step_time import StepTimeModel, rank_time
from lbal.analyzers.errors import UsageError
from lbal.replay.engine.engine import LEAST_SCALE, MOST_SCALE, replay
from lbal.replay.policy.policy import Policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload

TARGET_SLOT_USE = 0.8
LEAST_SLOT_USE, MOST_SLOT_USE = 0.3, 0.95


@dataclass(frozen=True)
class Sizing:
    """An estimate: the share of slots that a workload asks for, and the rate scale that asks for `target`."""

    slot_use: float
    rate_scale: float
    target: float = TARGET_SLOT_USE

    @property
    def fits(self) -> bool:
        """Whether the workload neither leaves the ranks mostly empty nor overloads them as it is."""
        return LEAST_SLOT_USE <= self.slot_use <= MOST_SLOT_USE


def rate_scale_for(
    figures: Mapping[str, Any], dp_size: int, max_num_seqs: int, model: StepTimeModel, target: float = TARGET_SLOT_USE
) -> Sizing | None:
    """The arrival-rate scale that keeps about `target` of the slots busy, by Little's law with evenly loaded ranks.

    A rank with n requests of mean resident length l = prompt + output/2 takes C + (a*l + b + b_mean)*n per step and
    emits n tokens in it. `figures` are those of `analyzers.demand.demand`. Requests that the steps serve at once are
    n = rate*output*t(n)/G; where that has no solution below the slots, the use is told as offered over largest rate.
    None where the requests have no arrival rate.
    """
    if "output_tokens_per_second" not in figures:
        return None
    length = figures["prompt_tokens_mean"] + figures["output_tokens_mean"] / 2
    coefficients = model.coefficients_s
    per_request = float(rank_time(length, 1.0, coefficients) + coefficients.per_mean_request)
    offered = figures["output_tokens_per_second"] / dp_size

    def rate(running: float) -> float:
        return running / (coefficients.shared + per_request * running)

    if (
        offered * per_request < 1
        and (running := offered * coefficients.shared / (1 - offered * per_request)) <= max_num_seqs
    ):
        slot_use = running / max_num_seqs
    else:
        slot_use = offered / rate(max_num_seqs)
    return Sizing(slot_use=slot_use, rate_scale=rate(target * max_num_seqs) / offered, target=target)


SLOT_USE_TOLERANCE = 1e-3
MOST_BISECTIONS = 40


def find_rate_scale(
    slot_use: float, workload: Workload, cluster: Cluster, policy: Policy, conditions: Conditions
) -> Sizing:
    """The rate scale at which `policy` keeps a share of the slots busy, found by bisection.

    The share is the mean over the steps up to the last admission: the drain after it, which a high rate cannot shorten,
    would make most shares unreachable for a short trace.

    Raises `UsageError` with the reachable range where no rate does, to within 0.001 (2% of small ones).
    """
    if not 0 < slot_use < 1:
        raise UsageError(
            f"{slot_use:g} is no share, expected a number between 0 and 1, both excluded", parameter="slot_use"
        )

    def use_at(rate_scale: float) -> float:
        replayed = replay(workload, cluster, policy, replace(conditions, rate_scale=rate_scale), keep_steps=False)
        loaded = [accounts for phase, accounts in replayed.accounts.items() if phase != "drain"] or [
            replayed.accounts["drain"]  # all requests enter at once
        ]
        running = sum(float(accounts.running.sum()) for accounts in loaded)
        return running / (sum(map(len, loaded)) * cluster.dp_size * cluster.max_num_seqs)

    low, high = _bracket(slot_use, use_at, policy)
    for _ in range(MOST_BISECTIONS):
        scale = (low * high) ** 0.5
        use = use_at(scale)
        if abs(use - slot_use) <= min(SLOT_USE_TOLERANCE, 0.02 * slot_use):
            return Sizing(slot_use=use, rate_scale=scale, target=slot_use)
        low, high = (scale, high) if use < slot_use else (low, scale)
    raise UsageError(
        f"the share jumps past {slot_use:g} near a rate scale of {scale:.6g} (to {use:.3f}), "
        "expected a share that the trace can reach",
        parameter="slot_use",
    )


def _bracket(slot_use: float, use_at: Callable[[float], float], policy: Policy) -> tuple[float, float]:
    """A rate scale with too little use and one with enough, a factor of 4 apart."""
    low = high = 1.0
    if use_at(1.0) < slot_use:
        while use_at(high) < slot_use:
            if high * 4 > MOST_SCALE:
                raise UsageError(
                    f"no arrival rate keeps {slot_use:g} of the slots busy under {policy.label}, "
                    f"expected a share of at most {use_at(high):.3f}",
                    parameter="slot_use",
                )
            low, high = high, high * 4
    else:
        while use_at(low) > slot_use:
            if low / 4 < LEAST_SCALE:
                raise UsageError(
                    f"even single requests keep more than {slot_use:g} of the slots busy, "
                    f"expected a share of at least {use_at(low):.3g}",
                    parameter="slot_use",
                )
            low, high = low / 4, low
    return low, high
