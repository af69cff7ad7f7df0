"""What is replayed, on what, and over which steps it is told: what all policies of an experiment share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lbal.analyzers.barrier.window import Window
from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.requests.demand import demand
from lbal.analyzers.requests.slo import Slo
from lbal.analyzers.result.result import Run
from lbal.analyzers.trace.trace import StepArrays, Trace
from lbal.analyzers.wording.findings import window_note
from lbal.analyzers.wording.load import Pace, load_notes
from lbal.replay.engine.engine import Progress, Replay, replay
from lbal.replay.experiment.figures import other_slopes, runs_of
from lbal.replay.experiment.rate_scale import rate_scale_for
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import Policy
from lbal.replay.scenario.cluster import Cluster, Conditions
from lbal.replay.scenario.workload import Workload


@dataclass(frozen=True)
class Scenario:
    """Requests, the system that serves them, the steps that count, and how energy is told."""

    workload: Workload
    cluster: Cluster
    conditions: Conditions
    window: Window
    view: EnergyView
    slo: Slo | None = None
    """Limits on latency, under which goodput is told."""

    def replay(
        self,
        policy: Policy,
        *,
        keep_steps: bool = False,
        bands: bool = False,
        on_steps: Callable[[StepArrays], None] | None = None,
        on_progress: Callable[[Progress], None] = lambda _progress: None,
    ) -> Replay:
        """The replay under a policy; `bands` accounts for it under the other models that its ranges need too."""
        return replay(
            self.workload,
            self.cluster,
            policy,
            self.conditions,
            keep_steps=keep_steps,
            curves=self.view.power.curves,
            also=other_slopes(self.cluster) if bands else (),
            on_steps=on_steps,
            on_progress=on_progress,
        )

    def runs(self, windowed: Sequence[Windowed]) -> list[Run]:
        """The runs of replays of this scenario; see `runs_of`."""
        return runs_of(windowed, self.workload, self.cluster, self.conditions, self.view, self.slo)

    def is_that_of(self, trace: Trace) -> bool:
        """Whether the requests meet as many ranks and slots, at the same times, as they did in the trace."""
        meta, conditions, cluster = trace.meta, self.conditions, self.cluster
        sizes = (
            (cluster.dp_size, meta.dp_size),
            (cluster.max_num_seqs, meta.max_num_seqs),
            (cluster.kv_capacity, meta.kv_capacity),
        )
        same_size = all(here == there or here is None or there is None for here, there in sizes)
        return same_size and conditions == Conditions(binding=conditions.binding, seed=conditions.seed)

    def config(self) -> dict[str, Any]:
        """The configuration that a result tells."""
        return {
            "dp_size": self.cluster.dp_size,
            "max_num_seqs": self.cluster.max_num_seqs,
            **self.conditions.as_dict(self.cluster),
            **self.cluster.prefill_record,
            **({} if self.slo is None else {"slo": dict(self.slo.limits_ms)}),
            "window": self.window,
            "seed": self.conditions.seed,
            "step_model": self.cluster.step_model.as_dict(),
            "power_model": self.view.as_dict(),
        }

    def notes(self, trace: Trace, runs: Sequence[Run], config: dict[str, Any], *, sized: bool) -> list[str]:
        """Whether the ranks are mostly empty or overloaded, and which steps count.

        `trace` is the one that the requests come from; `sized` where the rate scale was found for a share of slots.
        """
        workload, cluster, arriving = self.workload, self.cluster, self.conditions.arriving
        outputs, most_running = workload.output_tokens, cluster.dp_size * cluster.max_num_seqs
        least_steps = max(-(-int(outputs.sum()) // most_running), int(outputs.max()))
        if arriving.in_flight is not None:
            most_running = min(most_running, arriving.in_flight)
        load = load_notes(
            runs,
            config,
            requests=len(workload),
            most_slot_use=float(outputs.sum()) / (cluster.dp_size * cluster.max_num_seqs * least_steps),
            most_running=most_running,
            pace=self._pace(trace) if arriving.is_timed else None,
            slots_were_filled=sized,
        )
        return [*load, *preemption_notes(runs), *window_note(config, runs)]

    def _pace(self, trace: Trace) -> Pace:
        """At what rate requests arrive, and at what rate they would load the ranks."""
        assert trace.requests is not None
        conditions, cluster = self.conditions, self.cluster
        arriving, figures = conditions.arriving, demand(trace.requests)
        if arriving.rate_per_s is not None:
            figures["output_tokens_per_second"] = arriving.rate_per_s * figures["output_tokens_mean"]
        sizing = rate_scale_for(figures, cluster.dp_size, cluster.max_num_seqs, cluster.step_model)
        suggested = 1.0 if sizing is None else sizing.rate_scale
        arrival_ms = conditions.arrival_ms(self.workload)
        span_ms = float(arrival_ms[-1] - arrival_ms[0])
        if arriving.rate_per_s is None:
            return Pace(span_ms, conditions.rate_scale, suggested, "--rate-scale {:.3g}", of_trace=True)
        cv = "" if arriving.kind == "poisson" else f",{arriving.cv:g}"
        rate = arriving.rate_per_s
        return Pace(span_ms, rate, rate * suggested, f"--arrivals {arriving.kind}:{{:.3g}}{cv}", of_trace=False)


def preemption_notes(runs: Sequence[Run]) -> list[str]:
    """How often requests lost their KV tokens for want of room, of the runs in which any did."""
    told = [(run.label, run.details.get("preempted", {})) for run in runs]
    return [
        f"{label}: requests were preempted {lost['preemptions']:,} times for want of KV room, "
        f"and {lost['recomputed_tokens']:,} tokens computed again"
        for label, lost in told
        if lost.get("preemptions")
    ]
