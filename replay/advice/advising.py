"""`advise`: an engine's own settings replayed on the requests of a trace, and which of them is sure to help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.energy.sensitivity import BandedRun, compare
from lbal.analyzers.errors import Parameter, UsageError, one_of
from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.result.result import Result, Run, input_record
from lbal.analyzers.trace.trace import Trace
from lbal.analyzers.wording.advice import BESIDE, GAIN
from lbal.analyzers.wording.energy import energy_findings
from lbal.replay.advice.engines import ENGINES
from lbal.replay.advice.judging import Change, Judged, as_dict, best_of, headline
from lbal.replay.advice.setting import DEFAULT, Engine, Replayed, Setting
from lbal.replay.engine.engine import MOST_SLOTS
from lbal.replay.experiment.figures import banded, runs_of, with_ranges
from lbal.replay.experiment.options import ReplayOptions
from lbal.replay.experiment.progress import Display, NoDisplay
from lbal.replay.experiment.scenario import Scenario, preemption_notes
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import parse_policy
from lbal.replay.prefill.rule import PrefillRule, parse_prefill

METHOD = (
    "Each setting changes one thing of the default. Ranges: the same steps under the ends of all bands, without "
    "replaying anew; TTFT and queue wait are of the nominal models alone."
)


def advise(
    trace: Trace,
    *,
    engine: str,
    prefill: str | None = None,
    dp_size: int | None = None,
    max_num_seqs: int | None = None,
    kv_capacity: int | None = None,
    arrivals: str | None = None,
    rate_scale: float | None = None,
    pool: int | None = None,
    step_model: str | StepTimeModel | None = None,
    rank_speed: Sequence[str] = (),
    power_model: str | None = None,
    gpus_per_rank: int | None = None,
    costs: str | None = None,
    window: str = "all",
    seed: int = 0,
    display: Display | None = None,
) -> Result:
    """Replay a short list of an engine's own settings on the requests of a trace, and say which is sure to help.

    The parameters are the options of `lbal advise`, with the same defaults: `engine` is `vllm`, `sglang` or `trtllm`,
    `prefill` its rule with the settings that it runs with now (`"sglang:chunk=16384"`), the others are those of
    `lbal.replay`. Raises `UsageError`, which names the parameter, for what cannot be.
    """
    asked = Asked(
        engine,
        prefill,
        ReplayOptions(
            dp_size=dp_size,
            max_num_seqs=max_num_seqs,
            arrivals=arrivals,
            rate_scale=rate_scale,
            pool=pool,
            kv_capacity=kv_capacity,
            models=ModelChoice(step_model, rank_speed, power_model, gpus_per_rank, costs),
            window=window,
            seed=seed,
        ),
    )
    return asked.advice(trace, display=display)


@dataclass(frozen=True)
class Asked:
    """What advice is asked for; raises `UsageError` for an engine or a rule that is not known."""

    engine_name: str
    prefill: str | None
    options: ReplayOptions

    def __post_init__(self) -> None:
        _ = self.rule

    @property
    def engine(self) -> Engine:
        """The engine of that name."""
        return ENGINES[one_of(self.engine_name, list(ENGINES), "engine")]

    @property
    def rule(self) -> PrefillRule:
        """The rule of the default, which must be the engine's."""
        name = self.engine.name
        rule = parse_prefill(self.prefill or name)
        if rule is None or rule.name != name:
            raise UsageError(
                f"it is not the rule of {name}, expected {name} with its parameters",
                parameter=Parameter("prefill", repr(self.prefill)),
            )
        return rule

    def advice(self, trace: Trace, *, display: Display | None = None) -> Result:
        """The result: a run for each setting, and what is advised."""
        engine, rule = self.engine, self.rule
        options = replace(self.options, prefill=rule.label, policies=[engine.policy], binding=engine.binding)
        scenario, notes = options.scenario(trace)
        default = Replayed(rule, engine.policy, scenario.cluster.max_num_seqs)
        shown = display or NoDisplay()
        first = _replayed(scenario, Setting(DEFAULT, ""), default, shown)  # which refuses sizes that cannot be
        may_double, why_not = _may_double(scenario, default)
        tried = engine.tried(default, scenario.cluster.dp_size, may_double=may_double)
        windowed = [first, *[_replayed(scenario, setting, each, shown) for setting, each in tried[1:]]]
        bands = [banded(each) for each in windowed]
        found = runs_of(windowed, scenario.workload, scenario.cluster, scenario.conditions, scenario.view)
        runs = [
            replace(run, details={**run.details, "max_num_seqs": each.max_num_seqs, "rule": each.rule.label})
            for run, (_setting, each) in zip(with_ranges(found, bands, scenario.view), tried, strict=True)
        ]
        judged = [
            Judged(setting.name, setting.flags, {} if index == 0 else _changes(scenario, runs, bands, index))
            for index, (setting, _replayed) in enumerate(tried)
        ]
        return _result(trace, scenario, engine, runs, judged, [*notes, *why_not])


def _may_double(scenario: Scenario, default: Replayed) -> tuple[bool, list[str]]:
    """Whether twice the slots can be tried: there must be KV room for as many mean requests, and tokens for each.

    A note says why not.
    """
    cluster, workload = scenario.cluster, scenario.workload
    slots = 2 * default.max_num_seqs
    if slots > MOST_SLOTS:
        return False, []
    if cluster.kv_capacity is None:
        return False, [f"{slots} slots per rank are not tried: the KV tokens that fit on a rank are not known"]
    mean_tokens = float((workload.prompt_tokens + workload.output_tokens / 2).mean())
    if slots * mean_tokens > cluster.kv_capacity:
        told = f"that many requests of {mean_tokens:,.0f} tokens do not fit into {cluster.kv_capacity:,}"
        return False, [f"{slots} slots per rank are not tried: {told}"]
    budget = default.rule.rank_budget(cluster.dp_size)
    if default.rule.mixes and budget < slots:
        return False, [f"{slots} slots per rank are not tried: a step has {budget:,} tokens, and each slot takes one"]
    return True, []


def _replayed(scenario: Scenario, setting: Setting, each: Replayed, display: Display) -> Windowed:
    cluster = replace(scenario.cluster, max_num_seqs=each.max_num_seqs, prefill=each.rule)
    policy = parse_policy(f"{setting.name}={each.policy}")
    with display.replaying(setting.name, len(scenario.workload)) as on_progress:
        replayed = replace(scenario, cluster=cluster).replay(policy, bands=True, on_progress=on_progress)
    return Windowed.of(replayed, scenario.window)


def _changes(scenario: Scenario, runs: Sequence[Run], bands: Sequence[BandedRun], index: int) -> Mapping[str, Change]:
    """What a run changes against the first: with ranges where the bands are followed, else of the figures alone."""
    ranges = {each.metric: each for each in compare(bands[index], bands[0], scenario.view)}
    changes: dict[str, Change] = {}
    for name in (GAIN, *BESIDE):
        ours, theirs = runs[index].metrics.get(name), runs[0].metrics.get(name)
        if name in ranges:
            each = ranges[name]
            changes[name] = Change(each.nominal, each.low, each.high)
        elif ours is not None and theirs is not None and theirs.value > 0:
            changes[name] = Change(ours.value / theirs.value - 1)
    return changes


def _result(
    trace: Trace,
    scenario: Scenario,
    engine: Engine,
    runs: Sequence[Run],
    judged: Sequence[Judged],
    notes: Sequence[str],
) -> Result:
    config = scenario.config()
    best = best_of(judged)
    advice: dict[str, Any] = {
        "engine": engine.name,
        "reference": DEFAULT,
        "best": best[0].name if best else None,
        "flags": best[0].flags if best else None,
        "settings": [as_dict(each) for each in judged],
        "findings": [METHOD, *_paced(scenario)],
    }
    chosen = next((run for run in runs if run.label == advice["best"]), runs[0])
    return Result(
        command="advise",
        inputs=[input_record(trace)],
        config=config,
        runs=runs,
        headline=headline(judged[1:], engine.title),
        notes=[
            *trace.meta.warnings,
            *notes,
            *scenario.notes(trace, runs[:1], config, sized=False),
            *preemption_notes(runs[1:]),
        ],
        energy={"findings": energy_findings(runs, runs[0], chosen, scenario.view)},
        advice=advice,
    )


def _paced(scenario: Scenario) -> list[str]:
    """That arrivals may set the throughput."""
    if not scenario.conditions.arriving.is_timed:
        return []
    return [
        "Requests arrive at their times: while ranks have free slots, no setting serves more than arrive. What they "
        "could serve is told with arrivals from a backlog."
    ]
