"""Whatever happened to a line of a log: nothing is raised but a refusal, no value is made up, other lines are untouched.

`python -m pytest tests/analyzers/trace/test_mangled_logs.py --mangled-lines 100000` tries as many lines a format.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from engine_logs import RENDERERS
from engine_logs.known_run import KnownRun, made_up
from engine_logs.mangling import TELLING, mangled
from engine_logs.renderer import Renderer

import lbal
from lbal.analyzers.errors import LbalError
from lbal.analyzers.trace.formats import FORMATS, read_trace
from lbal.analyzers.trace.reading.line_clock import one_clock
from lbal.analyzers.trace.reading.log_lines import plain
from lbal.analyzers.trace.reading.rank_steps import RankStepsBuilder
from lbal.analyzers.trace.source import Source

LINES_AT_ONCE, RANKS = 100, 3
FORMATS_OF_LOGS = sorted({renderer.format for renderer in RENDERERS.values()})


@pytest.fixture(scope="module")
def run() -> KnownRun:
    return made_up(60, RANKS)


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(tempfile.mkdtemp())


def rendered(name: str, run: KnownRun) -> list[bytes]:
    """Lines of all logs of a format."""
    return [line.text.encode() for each in RENDERERS.values() if each.format == name for line in each.lines(run)]


def survives(path: Path, data: bytes, name: str | None = None) -> bool:
    """Whether a log is read and analyzed, or refused in one line; whatever else is raised gets through."""
    path.write_bytes(data)
    refusal = None
    try:
        lbal.analyze(read_trace(path, format_name=name))
    except LbalError as error:
        refusal = str(error)
    assert refusal is None or ("\n" not in refusal and len(refusal) < 2200)
    return refusal is None


def partly_mangled(lines: list[bytes], generator: np.random.Generator) -> bytes:
    """Lines that follow one another, from a place of the generator on; a third of them, 100, are mangled."""
    begin = int(generator.integers(0, len(lines)))
    part = (lines * (1 + (begin + 3 * LINES_AT_ONCE) // len(lines)))[begin : begin + 3 * LINES_AT_ONCE]
    for at in generator.choice(len(part), LINES_AT_ONCE, replace=False):
        part[at] = mangled(part[at], generator)
    return b"\n".join(part) + b"\n"


@pytest.mark.parametrize("name", FORMATS_OF_LOGS)
def test_no_mangled_line_raises_anything_but_a_refusal(name: str, run: KnownRun, folder: Path, request) -> None:
    generator = np.random.default_rng(len(name))
    lines = rendered(name, run)
    survived = 0
    for chunk in range(request.config.getoption("mangled_lines") // LINES_AT_ONCE):
        data = partly_mangled(lines, generator)
        survived += survives(folder / f"{chunk % 2}.log", data, name if chunk % 2 else None)
    assert survived


def test_no_mangled_sample_raises_anything_but_a_refusal(shared: Path, folder: Path, request) -> None:
    generator = np.random.default_rng(11)
    samples = sorted([*(shared / "logs").iterdir(), *(shared / "field").glob("[lt]*")])
    for path in samples:
        lines = path.read_bytes().splitlines()
        for _ in range(request.config.getoption("mangled_lines") // (20 * LINES_AT_ONCE)):
            survives(folder / path.name, partly_mangled(lines, generator))


def records_of(renderer: Renderer, lines: list[bytes], folder: Path) -> tuple[pl.DataFrame, int]:
    """The records that a reader collects of the lines, and how many lines and values it counts as left out."""
    path = folder / "one.log"
    path.write_bytes(b"\n".join(lines) + b"\n")
    reader = FORMATS.get(renderer.format)
    records = RankStepsBuilder(reader.alignment, reader.resolution)
    with Source(str(path)) as source:
        reader().collect(source, records, renderer.options)
    built = records.build()
    frame, _, _ = one_clock(built.frame)
    return frame.drop("line", "clock", "idle_before", strict=False), sum(built.skipped.values())


def is_left(row: tuple[object, ...], known: set[tuple[object, ...]]) -> bool:
    """Whether a row is one of those that are known, but for values that are unknown now."""
    return any(all(value is None or value == old for value, old in zip(row, one, strict=True)) for one in known)


@pytest.mark.parametrize("renderer", RENDERERS.values(), ids=RENDERERS)
def test_a_mangled_line_only_loses_what_it_says(renderer: Renderer, folder: Path) -> None:
    """It has no record or value that neither the whole log has nor the one without the line, and all of the latter."""
    texts = [
        line.text.encode()
        for line in renderer.lines(made_up(120 if renderer.resolution == "sampled" else 12, RANKS, empty=False))
    ]
    whole, skipped = records_of(renderer, texts, folder)
    signature, generator = FORMATS.get(renderer.format).signature, np.random.default_rng(7)
    for kind, mangler in TELLING.items():
        for at in generator.integers(0, len(texts), 4):
            broken = mangler(texts[at], generator)
            left, counted = records_of(renderer, [*texts[:at], broken, *texts[at + 1 :]], folder)
            without, _ = records_of(renderer, texts[:at] + texts[at + 1 :], folder)
            assert set(left.columns) <= {*whole.columns, "step"}, (kind, broken)
            if renderer.over_lines:  # looks are numbered as they come
                left, whole, without = (frame.drop("step", strict=False) for frame in (left, whole, without))
            known = {row for frame in (whole, without) for row in frame.select(pl.col(left.columns)).iter_rows()}
            changed = [row for row in left.iter_rows() if row not in known]
            assert all(is_left(row, known) for row in changed), (kind, broken)
            least = whole.height - RANKS if renderer.over_lines else without.height
            assert least <= left.height <= whole.height, (kind, broken)
            if left.height < whole.height and signature.search(broken):
                assert counted > skipped, (kind, broken)


@pytest.mark.parametrize("number", ["1e308", "1e20", "-1e308", "9" * 400])
def test_a_collectors_time_that_cannot_be_is_none(number: str) -> None:
    assert plain(b'{"log": "text", "time": %s}\n' % number.encode()) == b"text\n"
