"""What the result of a replay says of its setting: the configuration, and notes on the load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lbal.analyzers.energy.power import EnergyView
    from lbal.analyzers.result.result import Run
    from lbal.analyzers.trace.trace import Trace
    from lbal.replay.engine.engine import Cluster, Conditions
    from lbal.replay.scenario.workload import Workload


def replay_config(cluster: Cluster, conditions: Conditions, window: str, view: EnergyView) -> dict[str, Any]:
    """The configuration of a replay."""
    backlog = conditions.arrivals == "backlog"
    return {
        "dp_size": cluster.dp_size,
        "max_num_seqs": cluster.max_num_seqs,
        "kv_capacity": cluster.kv_capacity,
        "arrivals": conditions.arrivals,
        "binding": conditions.binding,
        "pool": (conditions.pool or 4 * cluster.dp_size) if backlog else None,
        "rate_scale": None if backlog else conditions.rate_scale,
        "drift": str(conditions.drift),
        "window": window,
        "seed": conditions.seed,
        "step_model": cluster.step_model.as_dict(),
        "power_model": view.as_dict(),
    }


def notes_on_load(
    trace: Trace,
    workload: Workload,
    cluster: Cluster,
    conditions: Conditions,
    runs: Sequence[Run],
    config: dict[str, Any],
    *,
    sized: bool,
) -> list[str]:
    """Whether the ranks are mostly empty or overloaded; `sized` where the rate scale was found by --slot-use."""
    from lbal.analyzers.requests.demand import demand
    from lbal.analyzers.wording.findings import load_notes
    from lbal.replay.experiment.rate_scale import rate_scale_for

    span = None
    if conditions.arrivals != "backlog":
        assert workload.arrival_ms is not None
        span = float(workload.arrival_ms[-1] - workload.arrival_ms[0]) / conditions.rate_scale
    assert trace.requests is not None
    sizing = rate_scale_for(demand(trace.requests), cluster.dp_size, cluster.max_num_seqs, cluster.step_model)
    suggested = 1.0 if sizing is None else sizing.rate_scale
    return load_notes(runs, config, arrivals_ms=span, suggested_scale=suggested, slots_were_filled=sized)
