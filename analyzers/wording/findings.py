"""Findings in plain words: the headline of a result, and notes that name the switch that changes what they tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lbal.analyzers.barrier.bounds import recovered_fraction
from lbal.analyzers.metrics import METRICS, SMALLEST_SHARE
from lbal.analyzers.result.result import Run
from lbal.analyzers.wording.numbers import count, listed, percent, shown_value
from lbal.analyzers.wording.vocabulary import CAUSES_IN_WORDS

RECOVERED = "recovered_idle_fraction"
NOTABLE_STRAGGLER = 1.5
"""A rank that is the straggler this many times its equal share of steps is worth naming."""
EXPLAINS_ALONE = 0.8
"""A cause of at least this share of the idle is its cause."""
CANCELS = 0.005
"""A cause this much larger than the idle is told with the one that cancels it."""
UNSEEN = "This is of the ranks that are there: with the others idle is no less, and what was avoidable is not known."


WITHHELD_WITH_PREFILL = (
    "What other placement or policy could change at most is n/a: with prefill a request does not give a token with "
    "every step, on which these bounds rest."
)


def replay_headroom(runs: Sequence[Run], reference: Run) -> list[str]:
    """How much of the reference's idle was avoidable and who recovers most of it; what no policy can beat."""
    if not reference.headroom:
        return [WITHHELD_WITH_PREFILL]
    idle = {run.label: run.metrics["barrier_idle_fraction"].value for run in runs}
    label, unavoidable = reference.label, reference.headroom["unavoidable_idle_fraction"].value
    others = {name: value for name, value in idle.items() if name != label}
    told = {run.label: run.headroom[RECOVERED].value for run in runs if RECOVERED in run.headroom}
    return [headroom_sentence(label, idle[label], unavoidable, others, told), _makespan_sentence(runs)]


def headroom_sentence(
    reference: str,
    idle: float,
    unavoidable: float,
    others: Mapping[str, float],
    told: Mapping[str, float] | None = None,
) -> str:
    """Of the idle of a reference, what was unavoidable and what the best of the others recovers.

    `others` are idle fractions by label: replayed policies, or any other placement of the same requests. `told` are the
    shares that tables tell as recovered, which means over seeds make other than the share of the mean idle.
    """
    if idle <= SMALLEST_SHARE:
        return f"No rank-time is idle under {reference}: there is nothing to recover (modelled)."
    text = f"Of {percent(idle)} idle under {reference}, "
    if idle - unavoidable <= SMALLEST_SHARE:
        text += "all was unavoidable for the same admissions"
    elif unavoidable <= SMALLEST_SHARE:
        text += "none is provably unavoidable"
    else:
        text += f"at least {percent(unavoidable)} was unavoidable"
    return "; ".join([text, *_recovery_clause(idle, unavoidable, others, told or {})]) + " (modelled)."


def _recovery_clause(
    idle: float, unavoidable: float, others: Mapping[str, float], told: Mapping[str, float]
) -> list[str]:
    avoidable = idle - unavoidable
    if not others:
        return [f"other placement could recover at most {percent(avoidable)}"] if avoidable > SMALLEST_SHARE else []
    best = min(others, key=others.__getitem__)
    if idle - others[best] <= SMALLEST_SHARE:
        return [f"{best} idles no less" if len(others) == 1 else "no other policy here idles less"]
    share = told[best] if best in told else recovered_fraction(idle, unavoidable, others[best])
    if avoidable <= SMALLEST_SHARE or share is None:
        return [f"{best}, which admits otherwise, idles {percent(others[best])}"]
    rest = "the rest" if unavoidable > SMALLEST_SHARE else "it"
    alike = [name for name in others if percent(others[name]) == percent(others[best])]
    names, recover = listed(alike), "recovers" if len(alike) == 1 else "recover"
    if share > 1 + SMALLEST_SHARE:
        return [
            f"{names}, which {'admits' if len(alike) == 1 else 'admit'} otherwise, {recover} all of {rest} and more"
        ]
    return [f"{names} {recover} {percent(share)} of {rest}"]


def _makespan_sentence(runs: Sequence[Run]) -> str:
    longer = {run.label: 1 / run.headroom["makespan_bound_fraction"].value - 1 for run in runs}
    least = min(longer.values())
    fastest = [label for label, share in longer.items() if percent(share) == percent(least)]
    bound_s = runs[0].headroom["makespan_bound_s"].value
    whole = " in the whole run" if "window" in runs[0].details else ""
    text = f"No policy can serve these requests in less than {_seconds(bound_s)} s"
    names, take = listed(fastest), "takes" if len(fastest) == 1 else "take"
    if least <= SMALLEST_SHARE:
        return f"{text}, which is what {names} {take}{whole} (modelled)."
    if len(fastest) < len(runs):
        names += ", the fastest here,"
    return f"{text}; {names} {take} {_seconds(bound_s * (1 + least))} s{whole}, {percent(least)} more (modelled)."


def _seconds(value: float) -> str:
    return shown_value(value, "s") if value >= 10 else f"{value:.3g}"


def analysis_headroom(run: Run, *, lengths_known: bool) -> list[str]:
    """How much of the idle other placement could have avoided."""
    idle = run.metrics["barrier_idle_fraction"]
    if not run.headroom:
        return ["What other placement could have avoided is not known: the trace lacks one of the loads."]
    are_unseen = "ranks_seen" in run.details
    if idle.value <= SMALLEST_SHARE and are_unseen:
        return [f"No rank-time of the ranks that are there is idle ({idle.basis}). {UNSEEN}"]
    if idle.value <= SMALLEST_SHARE:
        return [f"No rank-time is idle: there is nothing to recover ({idle.basis})."]
    unavoidable, avoidable = (run.headroom[f"{name}_idle_fraction"].value for name in ("unavoidable", "avoidable"))
    if avoidable <= SMALLEST_SHARE:
        bound = "all was unavoidable for the same admissions"
    elif unavoidable <= SMALLEST_SHARE:
        bound = "none is provably unavoidable"
    else:
        bound = (
            f"at least {percent(unavoidable)} was unavoidable and at most {percent(avoidable)} avoidable by placement"
        )
    found = [f"Of {percent(idle.value)} idle ({idle.basis}), {bound} (modelled)."]
    if are_unseen:
        found.append(UNSEEN)
    if not lengths_known:
        found.append("The trace does not tell which requests were active when; with that, more may prove unavoidable.")
    return found


def placement_sentence(name: str, modelled_idle: float, replaced_idle: float, unavoidable: float) -> str:
    """What the solver's placement of the same admissions would have made of a placement's idle."""
    text = (
        f"The same requests at the same admission times, placed by the solver, idle {percent(replaced_idle)} "
        f"against {percent(modelled_idle)} as {name}"
    )
    share = recovered_fraction(modelled_idle, unavoidable, replaced_idle)
    if share is None or share <= SMALLEST_SHARE:
        return f"{text} (modelled)."
    rest = "what was avoidable" if unavoidable > SMALLEST_SHARE else "it"
    return f"{text}: that recovers {percent(min(share, 1.0))} of {rest} (modelled)."


def analysis_headline(run: Run) -> str:
    """How much is idle, the main cause, the main straggler, in one sentence."""
    if len(run.ranks) == 1:
        return f"Only rank {run.ranks[0]['rank']} is there: nothing to compare, so nothing is said of barrier idle."
    idle = run.metrics["barrier_idle_fraction"]
    basis = "; ".join([idle.basis, *run.details.get("idle_is", ())])
    if idle.value <= 0 and all(rank["empty_fraction"] == 1 for rank in run.ranks):
        steps = count(int(run.metrics["steps"].value), "step")
        return f"No rank has work in any of the {steps}: there is nothing to balance."
    text = f"{percent(idle.value)} of rank-time is barrier idle ({basis})"
    if idle.value <= 0 or not run.attribution:
        return text + "."
    return f"{text}{cause_clause(idle.value, run.attribution)}; {_straggler_clause(run.ranks)}."


def cause_clause(idle: float, causes: Mapping[str, float]) -> str:
    """The cause that alone explains the idle, else the two largest with their signs; all are shares of rank-time.

    Causes are signed and may cancel: one that exceeds the idle itself does not explain it alone.
    """
    if idle <= SMALLEST_SHARE:
        return ""
    largest = sorted(causes, key=lambda name: -abs(causes[name]))[:2]
    share = causes[largest[0]]
    if EXPLAINS_ALONE * idle <= share <= idle * (1 + CANCELS):
        return f", most of it because of {_cause_noun(largest[0])} ({percent(share)})"
    told = [f"{_cause_noun(name)} {causes[name] * 100:+.2f}" for name in largest if abs(causes[name]) > SMALLEST_SHARE]
    cancel = " (they cancel in part)" if len(told) == 2 and causes[largest[0]] * causes[largest[1]] < 0 else ""
    return f": {', '.join(told)} points{cancel}" if told else ""


def _straggler_clause(ranks: Sequence[Mapping[str, Any]]) -> str:
    first = max(ranks, key=lambda rank: float(rank["straggler_fraction"]))
    share = first["straggler_fraction"]
    if share * len(ranks) < NOTABLE_STRAGGLER:
        return f"no rank stands out as the straggler (rank {first['rank']} leads with {percent(share)} of steps)"
    return f"rank {first['rank']} is the straggler in {percent(share)} of steps"


def _cause_noun(cause: str) -> str:
    return {
        "empty": "ranks without work",
        "count": "uneven numbers of requests",
        "length": "uneven lengths of requests",
        "prefill": "uneven prefill",
        "unexplained": "something that load does not explain",
    }.get(cause, CAUSES_IN_WORDS[cause])


def demand_headline(figures: Mapping[str, Any]) -> str:
    """What the trace asks for, in one sentence."""
    tokens = (
        f"{figures['prompt_tokens_mean']:,.0f} prompt and {figures['output_tokens_mean']:,.0f} output tokens on average"
    )
    if "arrivals_per_second" not in figures:
        arrivals = "all at once" if "duration_s" in figures else "without arrival times"
        return f"{count(figures['requests'], 'request')} {arrivals}, {tokens}; it has no steps to analyse."
    return (
        f"{count(figures['requests'], 'request')} at {figures['arrivals_per_second']:.3g} per second, {tokens}; "
        "it has no steps to analyse."
    )


def window_note(config: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    """Which metrics are over requests rather than steps, where the window leaves some out."""
    if config["window"] == "all":
        return []
    completed = METRICS["requests_completed"].label
    return (
        [f"window {config['window']}: latency, waits and {completed} are of the requests admitted in it"]
        if runs
        else []
    )
