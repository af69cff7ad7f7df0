"""What the fidelity page is made of: comparisons with a source, each with its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["prediction", "consistency check", "cannot be predicted"]
"""`prediction`: nothing was fitted to the figures of the same source. `consistency check`: something was, or the row
only tests a formula. `cannot be predicted`: a fact that decides it was not published."""


@dataclass(frozen=True)
class Row:
    """A published figure, and lbal's."""

    figure: str
    published: float | Callable[[], float]
    """A function where the published thing is a formula, which is stated anew and computed."""
    kind: Kind
    found: Callable[[], float] | None = None
    """Computes lbal's figure; None where it cannot be predicted."""
    within: float = 0.0
    """How far lbal's figure may be from the published one, as a share of the latter: what the tests hold."""
    reason: str = ""
    """Why it cannot be predicted."""
    other: Sequence[tuple[str, Callable[[], float]]] = ()
    """The figure under other coefficients or assumptions: how much rests on them."""

    def value(self) -> float:
        """The published figure."""
        return self.published() if callable(self.published) else self.published

    def error(self) -> float:
        """lbal's figure over the published one, minus 1."""
        assert self.found is not None
        return self.found() / self.value() - 1.0


@dataclass(frozen=True)
class Comparison:
    """Figures of one source."""

    title: str
    source: str
    facts: str
    """What was published and is used."""
    assumed: str
    """What was not published and is assumed or fitted here."""
    rows: Sequence[Row]
    verdict: str
    """What the rows show, and what they do not."""
