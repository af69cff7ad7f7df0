"""What the loads of ranks and waiting requests are expected to be over the next steps, in KV tokens or in rank time.

A request with s prompt tokens and age t (tokens produced) has at step k+h, h = 0..H,

    P(alive at h) * (a * (s + drift * min(t + h, attention window - s)) + b)

P from the policy's predictor (`predictors`). The released simulator of arXiv 2601.17855 lets active requests stay as
large as they are, and placed ones neither grow nor end; here all do. In KV tokens a = 1, b = 0. In time, a and b are
those of the step model, divided by a so that loads keep the scale of tokens: a token counts 1, a request b/a.
"""

from __future__ import annotations

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.policy.compilable import frugal
from lbal.replay.policy.predictors import SURVIVAL, age_of, completed_longer_than, predicted_stay
from lbal.replay.policy.predictors import P as PREDICTING
from lbal.replay.policy.view import View


@frugal
def load_units(view: View, by_time: bool) -> tuple[float, float]:
    """(load of a KV token, load of a request beside its tokens).

    By time (1, b/a), where tokens take no time (0, 1), and where nothing does as in KV tokens: (1, 0).
    """
    if not by_time or view.per_request_ms == 0:
        return 1.0, 0.0
    if view.per_token_ms == 0:
        return 0.0, 1.0
    return 1.0, view.per_request_ms / view.per_token_ms


@frugal
def add_expected(
    view: View, request: int, age: int, first: int, per_token: float, per_request: float, row: FloatArray
) -> None:
    """Add the expected load of a request that has that age now to `row[h]`, h = first..H."""
    prompt = float(view.prompt_tokens[request])
    longest = view.attention_window - prompt
    fixed = per_token * prompt + per_request
    growth = per_token * view.drift
    if view.parameters[PREDICTING.predictor] == SURVIVAL:
        share = 1.0 / (completed_longer_than(view, age) + 1)
        known = max(min(len(row), len(view.survivors) - age), first)
        for h in range(first, known):
            row[h] += (fixed + growth * min(float(age + h), longest)) * ((view.survivors[age + h] + 1) * share)
        for h in range(known, len(row)):
            row[h] += (fixed + growth * min(float(age + h), longest)) * share
        return
    stop = len(row)
    if stop > 1:
        stop = min(stop, predicted_stay(view, request, age))
    for h in range(first, stop):
        row[h] += fixed + growth * min(float(age + h), longest)


@frugal
def project_active(view: View, per_token: float, per_request: float, loads: FloatArray) -> None:
    """Write the expected load of every rank's active requests to `loads`, (G, H+1) zeros. O(G + active * H)."""
    if loads.shape[1] > 1:
        for request in view.active:
            if request >= 0:
                rank = view.rank[request]
                add_expected(view, request, age_of(view, request), 1, per_token, per_request, loads[rank])
    for rank in range(view.dp_size):
        loads[rank, 0] = per_token * view.kv_tokens[rank] + per_request * view.num_running[rank]


@frugal
def project_waiting(
    view: View, pool: IntArray, size: int, per_token: float, per_request: float, profiles: FloatArray
) -> None:
    """Write the expected load of every waiting request, admitted now, to `profiles`, (R, H+1) zeros. O(R * H)."""
    for index in range(size):
        if profiles.shape[1] > 1:
            add_expected(view, pool[index], 0, 1, per_token, per_request, profiles[index])
        profiles[index, 0] = per_token * view.prompt_tokens[pool[index]] + per_request
