"""How long requests are predicted to stay: the only prediction that balancing needs.

A request of age t has produced t of its o tokens. It takes part in the step about to start (h = 0), and in the h-th
step after that if o > t + h. A predictor says with what probability it does:

- `survival`: (n(t+h) + 1) / (n(t) + 1), with n(t) the completed requests that had more than t tokens: the empirical
  P(o > t+h | o > t) of what has completed so far in this replay, as if one request more had been seen that never ends.
  That one makes it `none` before anything has completed and for requests older than all that have, and fades otherwise.
- `mean`: certain to stay max(m - t, 1) steps, m the mean length of what has completed, rounded; `none` before that.
- `none`: certain to stay.
- `oracle`: certain to stay o - t steps, the truth.
- `noisy`: certain to stay max(q - t, 1) steps, q = o * exp(rel * z) rounded, z standard normal and fixed per request by
  the seed: the truth with a relative error of about `rel`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lbal.analyzers.trace.trace import FloatArray
from lbal.replay.policy.compilable import frugal
from lbal.replay.policy.named import parameters_of
from lbal.replay.policy.policy import Policy
from lbal.replay.policy.view import View

PredictorName = Literal["survival", "mean", "none", "oracle", "noisy"]
SURVIVAL, MEAN, NONE, ORACLE, NOISY = range(5)
USUAL_ERROR = 0.3
FOREVER = 1 << 40
"""Steps that a request stays of which nothing is known."""


@dataclass(frozen=True)
class Predicting(Policy):
    """Base of policies that predict: gives them the first two parameters, and declares what the predictor reads.

    Name it before `Selector` or `Router` among the bases: the places of its parameters are fixed.
    """

    predictor: PredictorName = "survival"
    rel: float = USUAL_ERROR

    def __post_init__(self) -> None:
        if not 0 <= self.rel < math.inf:
            raise ValueError(f"rel: {self.rel} is no relative error, expected a number of at least 0")
        if self.rel != USUAL_ERROR and self.predictor != "noisy":
            raise ValueError(f"rel: the predictor {self.predictor} makes no error, expected predictor=noisy with it")

    @property
    def uses_true_lengths(self) -> bool:  # type: ignore[override]
        """True for `oracle` and `noisy`."""
        return self.predictor in ("oracle", "noisy")

    @property
    def uses_draws(self) -> bool:  # type: ignore[override]
        """True for `noisy`."""
        return self.predictor == "noisy"

    @property
    def learns_lengths(self) -> bool:  # type: ignore[override]
        """True for `survival` and `mean`."""
        return self.predictor in ("survival", "mean")


P = parameters_of(Predicting)
"""Their places in every policy that predicts: the first ones (`check_policy` holds it)."""


@frugal
def completed_longer_than(view: View, age: int) -> int:
    """n(age): completed requests that had more than `age` output tokens."""
    return int(view.survivors[age]) if age < len(view.survivors) else 0


@frugal
def survival(view: View, age: int, steps: int) -> float:
    """(n(age + steps) + 1) / (n(age) + 1): P(alive after `steps` more steps), learnt from what has completed."""
    return (completed_longer_than(view, age + steps) + 1) / (completed_longer_than(view, age) + 1)


@frugal
def predicted_stay(view: View, request: int, age: int) -> int:
    """Steps that a request will take part in, the next included, by a predictor that is certain (not `survival`)."""
    predictor = view.parameters[P.predictor]
    if predictor == ORACLE:
        return max(int(view.output_tokens[request]) - age, 1)
    if predictor == NOISY:
        first, second = view.draws[request, 0], view.draws[request, 1]
        normal = math.sqrt(-2.0 * math.log(1.0 - first)) * math.cos(2.0 * math.pi * second)
        length = view.output_tokens[request] * math.exp(view.parameters[P.rel] * normal)
        return max(int(min(length, float(FOREVER)) + 0.5) - age, 1)
    if predictor == MEAN and completed_longer_than(view, 0) > 0:
        return max(int(view.tokens_completed[0] / completed_longer_than(view, 0) + 0.5) - age, 1)
    return FOREVER


@frugal
def fill_alive(view: View, request: int, age: int, alive: FloatArray) -> None:
    """Write P(alive after h more steps) to `alive[h]`, h = 0..H, for a request of that age (0 for a waiting one)."""
    if view.parameters[P.predictor] == SURVIVAL:
        for h in range(len(alive)):
            alive[h] = survival(view, age, h)
        return
    stay = predicted_stay(view, request, age)
    for h in range(len(alive)):
        alive[h] = 1.0 if h < stay else 0.0


@frugal
def steps_inside(view: View, request: int, age: int, horizon: int) -> float:
    """Expected steps after the next one that a request takes part in, up to `horizon`: sum of P(alive), h = 1..H.

    It is chat = (1-p)*H + p*mu of arXiv 2605.06113: with r the steps that are left to it after the next one,
    p = P(r < H) and mu the mean of r if so, chat = E[min(r, H)].
    """
    if view.parameters[P.predictor] != SURVIVAL:
        return float(min(predicted_stay(view, request, age) - 1, horizon))
    seen = 0
    for later in range(age + 1, min(age + horizon + 1, len(view.survivors))):
        seen += view.survivors[later]
    return (seen + horizon) / (completed_longer_than(view, age) + 1)


@frugal
def load_after(view: View, request: int, age: int) -> float:
    """KV tokens of a request of that age: s + drift * min(age, attention window - s)."""
    prompt = view.prompt_tokens[request]
    return float(prompt + view.drift * min(float(age), view.attention_window - prompt))


@frugal
def add_growing(view: View, request: int, age: int, row: FloatArray) -> None:
    """Add to `row[h]` the KV tokens of a request h steps after it has that age: `load_after` of `age + h`."""
    prompt = float(view.prompt_tokens[request])
    growing = int(min(max(view.attention_window - prompt - age, 0.0), float(len(row))))
    for h in range(growing):
        row[h] += prompt + view.drift * float(age + h)
    if growing < len(row):
        largest = load_after(view, request, age + growing)
        for h in range(growing, len(row)):
            row[h] += largest


@frugal
def age_of(view: View, request: int) -> int:
    """Tokens that an active request has produced."""
    age = int(view.clock[0]) - int(view.behind[view.rank[request]]) - int(view.admitted_step[request])
    return max(age, 0)
