"""The replayed system, and how the requests meet it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import Parameter, UsageError
from lbal.analyzers.trace.trace import FloatArray
from lbal.replay.policy.policy import Binding
from lbal.replay.prefill.rule import PrefillRule
from lbal.replay.scenario.arrivals import Arrivals, parse_arrivals
from lbal.replay.scenario.drift import Drift
from lbal.replay.scenario.workload import Workload

POOL_PER_RANK = 4
"""Waiting requests per rank that a backlog keeps, where nobody names the size of its pool."""


@dataclass(frozen=True)
class Cluster:
    """The replayed system: G ranks with B slots each, and how fast they are."""

    dp_size: int
    max_num_seqs: int
    step_model: StepTimeModel
    kv_capacity: int | None = None
    """KV tokens that fit on a rank; None for no limit. Admission reserves a request's largest load."""
    prefill: PrefillRule | None = None
    """How prompts are computed; None for a cluster that only decodes."""
    padding: bool | None = None
    """Whether ranks are padded to one another; None for what the rule's engine does."""

    @property
    def grows(self) -> bool:
        """Whether KV tokens are taken as they come, and requests preempted for want of room."""
        return self.prefill is not None and self.prefill.grows and self.kv_capacity is not None

    @property
    def admission_capacity(self) -> float:
        """KV tokens of a rank that admissions may fill; infinite without a limit."""
        if self.kv_capacity is None:
            return math.inf
        if self.prefill is None or not self.prefill.grows:
            return float(self.kv_capacity)
        return float(math.floor(self.kv_capacity * (1 - self.prefill.free_share)))

    @property
    def prefill_record(self) -> dict[str, Any]:
        """How prompts are computed, for the result and for the header of a replayed trace; empty where they are not."""
        if self.prefill is None:
            return {}
        record = self.prefill.as_dict(self.dp_size)
        return {"prefill": {**record, "padding": "never" if self.padding is False else record["padding"]}}


@dataclass(frozen=True)
class Conditions:
    """How the requests meet the cluster."""

    arrivals: str = "trace"
    """How they arrive, as `parse_arrivals` reads it."""
    rate_scale: float = 1.0
    pool: int | None = None
    """Waiting requests that a backlog is refilled to; None for 4*G."""
    binding: Binding | None = None
    """None for each policy's natural one."""
    drift: Drift = field(default_factory=Drift)
    """How the load of a request grows."""
    seed: int = 0

    @property
    def arriving(self) -> Arrivals:
        """What `arrivals` names. Raises `UsageError`."""
        return parse_arrivals(self.arrivals)

    def arrival_ms(self, workload: Workload) -> FloatArray:
        """(N,) when each request arrives, for those that do so at times; NaN where that depends on other requests.

        Raises `UsageError` where the workload has no times, and none are drawn.
        """
        arriving = self.arriving
        if arriving.are_drawn:
            return arriving.drawn_ms(len(workload), self.seed)
        scaled = workload.scaled_arrivals(self.rate_scale)
        if arriving.kind == "sessions":
            if workload.waits is None:
                raise UsageError(
                    f"{workload.source}: no request waits for another, expected ",
                    Parameter("arrivals", "trace"),
                )
            scaled[workload.waits.request] = np.nan
        return scaled

    def pool_size(self, dp_size: int) -> int:
        """Waiting requests that a backlog is refilled to."""
        return self.pool if self.pool is not None else POOL_PER_RANK * dp_size

    def as_dict(self, cluster: Cluster) -> dict[str, Any]:
        """For the result and for the header of a replayed trace; what has no meaning under these arrivals is None."""
        return {
            "kv_capacity": cluster.kv_capacity,
            "arrivals": self.arrivals,
            "binding": self.binding,
            "pool": self.pool_size(cluster.dp_size) if self.arriving.kind == "backlog" else None,
            "rate_scale": self.rate_scale if self.arriving.can_be_scaled else None,
            "drift": str(self.drift),
        }
