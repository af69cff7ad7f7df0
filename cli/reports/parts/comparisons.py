"""The parts of comparisons and checks that reports lay out: titles, lines, and tables as rows of text."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from lbal.analyzers.result.result import Result
from lbal.analyzers.wording.differences import (
    COLUMNS,
    LEFT_COLUMNS,
    change_lines,
    difference_rows,
    gate_sentence,
    gate_status,
    pair_title,
)

GATE_COLUMNS = ["outcome", "gate", "run", "what was found"]


class Part(NamedTuple):
    """A title, lines of text, and a table; each may be empty."""

    title: str
    lines: list[str]
    columns: list[str]
    rows: list[list[str]]
    left: int
    """Columns that are text."""


def comparison_parts(result: Result, of_replay: Collection[str]) -> Iterator[Part]:
    """One part for each pair of runs that was compared.

    Where the runs are policies of one replay, it shows the metrics in `of_replay` alone, and does not list what differs
    in their configuration, which is the policy.
    """
    for pair in result.comparison.get("pairs", ()):
        if not pair["differences"]:
            continue
        changes = change_lines(pair)
        lines = ["What differs in configuration:", *changes] if changes else ["The configuration is the same."]
        chosen = pair["differences"]
        if result.command == "replay":
            lines, chosen = [], [each for each in chosen if each["metric"] in of_replay]
        yield Part(pair_title(pair), lines, COLUMNS, difference_rows(chosen), LEFT_COLUMNS)


def check_parts(result: Result) -> Iterator[Part]:
    """A part with the outcome of every gate, and one with what differs in configuration, if anything does."""
    if not result.check:
        return
    rows = [
        [gate_status(gate), gate["gate"], " ".join(gate["run"].split()), gate_sentence(gate)]
        for gate in result.check["gates"]
    ]
    yield Part("", [], GATE_COLUMNS, rows, len(GATE_COLUMNS))
    if changes := change_lines(result.check):
        yield Part("What differs in configuration", changes, [], [], 0)
