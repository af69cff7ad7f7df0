"""`replay`: from a trace and options to a result, in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.errors import Parameter, UsageError, one_of
from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.result.collecting import Drawing, Watch
from lbal.analyzers.result.result import Result, input_record
from lbal.analyzers.result.runs import least_idle, reference_of
from lbal.analyzers.trace.trace import Trace
from lbal.analyzers.wording.energy import energy_findings
from lbal.analyzers.wording.numbers import percent
from lbal.analyzers.wording.verdict import replay_headline
from lbal.replay.engine.engine import Replay
from lbal.replay.engine.trial import try_policies
from lbal.replay.experiment.findings import headroom_record, with_bands, with_fidelity_of, with_placement
from lbal.replay.experiment.options import RESAMPLES, ReplayOptions
from lbal.replay.experiment.progress import Display, NoDisplay
from lbal.replay.experiment.rate_scale import find_rate_scale
from lbal.replay.experiment.repeated import repeated_result
from lbal.replay.experiment.repeats import Experiment
from lbal.replay.experiment.scenario import Scenario
from lbal.replay.experiment.windowed import Windowed
from lbal.replay.policy.policy import Policy

OnReplay = Callable[[Replay], None]


def replay(
    trace: Trace,
    *,
    dp_size: int | None = None,
    max_num_seqs: int | None = None,
    policies: Sequence[str] | None = None,
    arrivals: str | None = None,
    rate_scale: float | None = None,
    pool: int | None = None,
    binding: str | None = None,
    kv_capacity: int | None = None,
    drift: str = "1",
    prefill: str | None = None,
    padding: bool | None = None,
    slot_use: float | None = None,
    step_model: str | StepTimeModel | None = None,
    rank_speed: Sequence[str] = (),
    power_model: str | None = None,
    gpus_per_rank: int | None = None,
    costs: str | None = None,
    bands: bool = False,
    slo: str | None = None,
    window: str = "all",
    seed: int = 0,
    repeat: int = 1,
    resample: str = "blocks",
    jobs: int | None = None,
    display: Display | None = None,
) -> Result:
    """Replay the requests of a trace under routing policies, and compare what the barrier costs.

    The parameters are the options of `lbal replay`, with the same defaults: the size of the cluster is that of the
    trace where it tells it, `policies` are names with their parameters (`"bf-io:horizon=5"`) or
    `path/to/file.py:Class`, `arrivals` is `trace`, `backlog`, `closed:N`, `poisson:RATE` or
    `gamma:RATE,CV`, `binding` is `pool` or `immediate`, `window` is `all`, `admissions` or `steady`, `slo` are limits
    on latency in ms (`"tpot=50,e2e=9000"`), `prefill` is a rule with its parameters (`"vllm:interval=2"`). `step_model`
    may also be a model. `display` shows how far the replays have come.
    Raises `UsageError`, which names the parameter, for what cannot be.
    """
    models = ModelChoice(step_model, rank_speed, power_model, gpus_per_rank, costs)
    options = ReplayOptions(
        dp_size=dp_size,
        max_num_seqs=max_num_seqs,
        policies=policies,
        arrivals=arrivals,
        rate_scale=rate_scale,
        pool=pool,
        binding=binding,
        kv_capacity=kv_capacity,
        drift=drift,
        prefill=prefill,
        padding=padding,
        slot_use=slot_use,
        models=models,
        bands=bands,
        slo=slo,
        window=window,
        seed=seed,
        repeat=repeat,
        resample=resample,
        jobs=jobs,
    )
    return replay_result(trace, options, display=display)


def replay_result(
    trace: Trace,
    options: ReplayOptions,
    *,
    drawing: Drawing | None = None,
    display: Display | None = None,
    keep_steps: bool = False,
    on_replay: OnReplay = lambda _replayed: None,
) -> Result:
    """The result of a replay.

    `drawing` says what of the steps is collected for reports: without one, charts can be drawn. `on_replay` gets the
    replay of each policy, with the steps in its trace if `keep_steps`; there is none where replays are repeated.
    """
    drawing, display = drawing or Drawing(), display or NoDisplay()
    options, chosen = options.suited_to(trace)
    scenario, notes = options.scenario(trace)
    notes = [*chosen, *notes]
    try_policies(options.parsed_policies, scenario.cluster.dp_size)
    sized = options.slot_use is not None
    if options.slot_use is not None:
        scenario, found = _with_slot_use(scenario, options.slot_use, options)
        notes.append(found)
    if options.repeat > 1:
        experiment = Experiment(options.policies or (), scenario, one_of(options.resample, RESAMPLES, "resample"))
        return repeated_result(trace, experiment, options.repeat, options.jobs, notes, display, sized=sized)
    windowed, watches = [], []
    for policy in options.parsed_policies:
        watches.append(drawing.watch(len(options.parsed_policies)))
        replayed = _replayed(scenario, policy, watches[-1], display, keep_steps=keep_steps, bands=options.bands)
        windowed.append(Windowed.of(replayed, scenario.window))
        on_replay(replayed)
    result = _result(trace, scenario, windowed, notes, display, bands=options.bands, sized=sized)
    runs = [watch.drawn(run, each.fold) for run, each, watch in zip(result.runs, windowed, watches, strict=True)]
    return replace(result, runs=runs, notes=[*result.notes, *drawing.notes(runs)])


def _replayed(
    scenario: Scenario, policy: Policy, watch: Watch, display: Display, *, keep_steps: bool, bands: bool
) -> Replay:
    with display.replaying(policy.label, len(scenario.workload)) as on_progress:
        return scenario.replay(policy, keep_steps=keep_steps, bands=bands, on_steps=watch.see, on_progress=on_progress)


def _with_slot_use(scenario: Scenario, slot_use: float, options: ReplayOptions) -> tuple[Scenario, str]:
    """The scenario at the rate that keeps this share of the slots busy under the first routing policy, and a note."""
    if options.rate_scale is not None:
        raise UsageError(
            "it finds the rate scale itself, expected no ", Parameter("rate_scale"), " beside it", parameter="slot_use"
        )
    policies = options.parsed_policies
    policy = next((each for each in policies if not each.uses_recorded_rank), policies[0])
    found = find_rate_scale(slot_use, scenario.workload, scenario.cluster, policy, scenario.conditions)
    text = (
        f"--rate-scale {found.rate_scale:.6g} keeps {percent(found.slot_use)} of the slots busy under {policy.label}, "
        "up to the last admission"
    )
    return replace(scenario, conditions=replace(scenario.conditions, rate_scale=found.rate_scale)), text


def _result(
    trace: Trace,
    scenario: Scenario,
    windowed: Sequence[Windowed],
    notes: Sequence[str],
    display: Display,
    *,
    bands: bool,
    sized: bool,
) -> Result:
    config, view = scenario.config(), scenario.view
    runs = scenario.runs(windowed)
    runs, sensitivity = with_bands(runs, windowed, view) if bands else (runs, {})
    runs, placed = with_placement(runs, windowed, scenario, display)
    headroom = headroom_record(runs, placed, view)
    runs, fidelity = with_fidelity_of(trace, runs, scenario)
    reference = reference_of(runs)
    return Result(
        command="replay",
        inputs=[input_record(trace)],
        config=config,
        runs=runs,
        headline=replay_headline(runs, reference),
        notes=[*trace.meta.warnings, *notes, *scenario.notes(trace, runs, config, sized=sized)],
        headroom=headroom,
        energy={"findings": energy_findings(runs, reference, least_idle(runs), view)},
        bands=sensitivity,
        fidelity=fidelity,
    )
