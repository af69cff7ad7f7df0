"""The verdict of a replay: who idles least, what that costs, how much of the run it is of, and where it turns round.

Policies whose idle prints alike are told as alike: none of them is called the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lbal.analyzers.metrics import METRICS, names_in
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.numbers import listed, percent, shown_value, with_unit

NOTABLY_WORSE = 1.1
"""What is more than this many times worse stands beside what is better."""
MOST_WORSE = 3
"""Figures that a headline names as worse."""
SHORT_WINDOW = 0.1
"""A window below this share of a run's time says nothing of the run."""
IDLE, THROUGHPUT = "barrier_idle_fraction", "tokens_per_second"


def replay_headline(runs: Sequence[Run], reference: Run, rests_on: str = "") -> str:
    """Who idles least, against the reference, how much of the run that is said of, and where another verdict holds.

    `rests_on` says what else the figures rest on.
    """
    parts = _least_idle_sentence(runs, reference, rests_on), _window_sentence(runs), _turned(runs, reference)
    return " ".join(filter(None, parts))


def leaders(runs: Sequence[Run]) -> list[Run]:
    """The runs that idle least, in their order: one, or those whose idle prints alike."""
    return _least(runs, {run.label: run.metrics[IDLE].value for run in runs})


def _least(runs: Sequence[Run], idle: Mapping[str, float]) -> list[Run]:
    least = percent(min(idle[run.label] for run in runs))
    return [run for run in runs if percent(idle[run.label]) == least]


def _others(runs: Sequence[Run], some: Sequence[Run]) -> list[Run]:
    labels = {run.label for run in some}
    return [run for run in runs if run.label not in labels]


def _least_idle_sentence(runs: Sequence[Run], reference: Run, rests_on: str) -> str:
    basis = f"(modelled; {rests_on})" if rests_on else "(modelled)"
    best = leaders(runs)
    others, names = _others(runs, best), listed([run.label for run in best])
    least = _idle(best[0])
    if len(runs) == 1:
        return f"{names} loses {least} of rank-time to barrier idle {basis}."
    if not others:
        return f"{names} lose alike: {least} of rank-time is barrier idle{_worse_clause(best)} {basis}."
    alike = "loses" if len(best) == 1 else "lose alike, and"
    text = f"{names} {alike} least of {len(runs)} policies: {least} of rank-time is barrier idle"
    if any(run is reference for run in best):
        second = leaders(others)
        following = listed([run.label for run in second])
        are = "is" if len(second) == 1 else "are"
        return f"{text}, next {are} {following} with {_idle(second[0])}{_worse_clause(best, second[0])} {basis}."
    gains = dict.fromkeys(_gain(_rate(run), _rate(reference)) for run in best)
    return (
        f"{text} against {_idle(reference)} under {reference.label}, "
        f"with {listed(list(gains))} throughput{_worse_clause(best, reference)} {basis}."
    )


def _idle(run: Run) -> str:
    return percent(run.metrics[IDLE].value)


def _rate(run: Run) -> float:
    return run.metrics[THROUGHPUT].value


def _gain(rate: float, reference: float) -> str:
    """How much higher a throughput is, as `+1.2%`; `the same` where that prints as none."""
    text = f"{rate / reference - 1:+.1%}"
    return "the same" if text in ("+0.0%", "-0.0%") else text


def _worse_clause(best: Sequence[Run], other: Run | None = None) -> str:
    """What one of the runs with the least idle does notably worse than the other run, or than another of them."""
    rivals = [*best, *([other] if other is not None else [])]
    worst: dict[str, tuple[float, Run, Run]] = {}
    for name in names_in("comparison"):
        if METRICS[name].unit == "steps":
            continue
        pairs = [(_times_worse(name, run, rival), run, rival) for run in best for rival in rivals]
        worst[name] = max(pairs, key=lambda pair: pair[0])
    names = sorted((name for name in worst if worst[name][0] > NOTABLY_WORSE), key=lambda name: -worst[name][0])
    told = [_against(name, *worst[name][1:], named=len(best) > 1) for name in names[:MOST_WORSE]]
    return f", but {listed(told)}" if told else ""


def _against(name: str, run: Run, rival: Run, *, named: bool) -> str:
    ours, theirs = (f" under {each.label}" if named else "" for each in (run, rival))
    return f"{METRICS[name].label} of {_valued(run, name)}{ours} against {_valued(rival, name)}{theirs}"


def _times_worse(name: str, run: Run, other: Run) -> float:
    """How many times worse a run is; 1 where a value is missing or no direction is better."""
    if name not in run.metrics or name not in other.metrics:
        return 1.0
    return times_worse(name, run.metrics[name].value, other.metrics[name].value)


def times_worse(name: str, ours: float, theirs: float) -> float:
    """How many times worse one value of a metric is than another.

    1 where it is not worse, where both print alike, and where no direction is better.
    """
    metric = METRICS[name]
    if shown_value(ours, metric.unit) == shown_value(theirs, metric.unit):
        return 1.0
    if metric.better == "higher":
        ours, theirs = theirs, ours
    if metric.better == "neither" or not ours > theirs:
        return 1.0
    return 1 + (ours - theirs) / abs(theirs) if theirs else float("inf")


def _valued(run: Run, name: str) -> str:
    return with_unit(run.metrics[name].value, METRICS[name].unit)


def _window_sentence(runs: Sequence[Run]) -> str:
    """How much of the runs their window is, where it leaves some out, and whether that is too little for a verdict."""
    if not all("window" in run.details for run in runs):
        return ""
    shortest = min(runs, key=lambda run: run.details["window"]["time_fraction"])
    window = shortest.details["window"]
    steps = f"{window['steps']:,.0f} of {window['of_steps']:,.0f} steps"
    text = f"This is of the window alone: {steps}, {percent(window['time_fraction'])} of the run's time"
    if len(runs) > 1:
        text += f" under {shortest.label}"
    if window["time_fraction"] < SHORT_WINDOW:
        text += ", too short for a verdict on the run"
    return f"{text}."


def _turned(runs: Sequence[Run], reference: Run) -> str:
    """Whether another window of the same runs gives another verdict: others lose least, or throughput changes sign."""
    if len(runs) == 1 or not all("elsewhere" in run.details for run in runs):
        return ""
    idle = {run.label: run.details["elsewhere"][IDLE] for run in runs}
    rate = {run.label: run.details["elsewhere"][THROUGHPUT] for run in runs}
    here, there = leaders(runs), _least(runs, idle)
    common = _others(here, _others(runs, there))
    if not common:
        rival = _least(here, idle)[0]
        gain = _gain(rate[there[0].label], rate[rival.label])
        lose = "loses" if len(there) == 1 else "lose"
        return (
            f"{_where(there[0])} {listed([run.label for run in there])} {lose} least instead: "
            f"{percent(idle[there[0].label])} against {percent(idle[rival.label])} under {rival.label}, "
            f"with {gain} throughput."
        )
    best = common[0]
    signs = [_gain(_rate(best), _rate(reference))[0], _gain(rate[best.label], rate[reference.label])[0]]
    if best is reference or set(signs) != {"+", "-"}:
        return ""
    gain = _gain(rate[best.label], rate[reference.label])
    return f"{_where(best)} {best.label} has {gain} throughput against {reference.label}."


def _where(run: Run) -> str:
    """The other window, as a sentence begins with it."""
    elsewhere = run.details["elsewhere"]
    if elsewhere["window"] == "all":
        return "In the whole run"
    return f"Up to the last admission, in {elsewhere['steps']:,.0f} of {run.metrics['steps'].value:,.0f} steps,"
