"""Reading lines in bulk gives what the plain reader of one line gives, whatever the lines look like."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from damaged_lines import damaged
from engine_logs import RENDERERS
from engine_logs.known_run import made_up
from engine_logs.mangling import mangled
from hypothesis import given, settings
from hypothesis import strategies as st
from wrapped_lines import WRAPPERS

from lbal.analyzers.trace.formats import FORMATS, LogReader
from lbal.analyzers.trace.reading.line_form import ABSENT, Field, Fields, LineForm
from lbal.analyzers.trace.reading.line_shapes import LineShapes
from lbal.analyzers.trace.reading.rank_steps import RankSteps, RankStepsBuilder
from lbal.analyzers.trace.source import Source

IN_BULK = ("sglang", "trtllm-log", "vllm-iterations")
"""Formats whose lines are read so."""
LOGS = [renderer for renderer in RENDERERS.values() if renderer.format in IN_BULK]
RUN = made_up(30, 3)
LINES = {renderer.name: [line.text for line in renderer.lines(RUN)] for renderer in LOGS}


def collected(name: str, data: bytes) -> RankSteps:
    """What the reader of a format collects of a text."""
    reader: type[LogReader] = FORMATS.get(name)
    records = RankStepsBuilder(reader.alignment, reader.resolution)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.log"
        path.write_bytes(b"-\n" + data.replace(b"\0", b"\1"))
        with Source(str(path)) as source:
            reader().collect(source, records, LOGS[0].options)
    return records.build()


def assert_alike(name: str, data: bytes, patch: pytest.MonkeyPatch) -> None:
    """All that a reader collects is the same when no form of a line is ever learned."""
    in_bulk = collected(name, data)
    with patch.context() as plainly:
        plainly.setattr(LineForm, "of", lambda *_: None)
        plain = collected(name, data)
    assert in_bulk.frame.equals(plain.frame)
    for what in ("facts", "skipped", "notes", "alignment", "resolution", "gaps_are_idle", "begins_with_start"):
        assert getattr(in_bulk, what) == getattr(plain, what), what


@st.composite
def logs(draw) -> tuple[str, bytes]:
    """Some lines of a log of any generation in any wrapper, some of them mangled, and the format."""
    renderer = draw(st.sampled_from(LOGS))
    wrap = WRAPPERS[draw(st.sampled_from(sorted(WRAPPERS)))]
    begin, generator = draw(st.integers(0, 60)), np.random.default_rng(draw(st.integers(0, 1 << 30)))
    lines = [text.encode() for text in LINES[renderer.name][begin : begin + 40]]
    for index in range(0 if draw(st.booleans()) else len(lines)):
        if generator.random() < 0.2:
            lines[index] = mangled(lines[index], generator)
    texts = [line.decode(errors="replace").replace("\n", " ") for line in lines]
    data = wrap([(index / 3 + generator.random() / 9, text) for index, text in enumerate(texts)]).encode()
    return renderer.format, damaged(data, generator) if draw(st.booleans()) else data


@settings(max_examples=200, deadline=None)
@given(log=logs())
def test_logs_of_any_form_read_alike(log: tuple[str, bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert_alike(*log, patch)


@pytest.mark.parametrize(
    "renderer", [one for one in LOGS if one.resolution == "step" and not one.refused], ids=lambda one: one.name
)
@pytest.mark.parametrize(
    "wrapper", ["", "docker timestamps", "syslog RFC 3164", "Docker JSON", "journald short-precise"]
)
def test_nearly_all_lines_of_a_log_are_read_in_bulk(renderer, wrapper, monkeypatch) -> None:
    plainly: list[bytes] = []
    read_alike = LineShapes.read_alike

    def watched(self: LineShapes, data: bytes):
        found, others = read_alike(self, data)
        plainly.extend(line for _row, line in others)
        return found, others

    monkeypatch.setattr(LineShapes, "read_alike", watched)
    lines = [(index / 3, text) for index, text in enumerate(LINES[renderer.name])]
    text = WRAPPERS[wrapper](lines) if wrapper else "\n".join(text for _, text in lines) + "\n"
    assert len(collected(renderer.format, text.encode()).frame) > 50
    assert len(plainly) < 5


def shapes(find, marks: tuple[bytes, ...] = (b"load ",)) -> LineShapes:
    return LineShapes(marks, find, lambda head: (float(len(head)), np.nan, np.nan), 1)


def after_the_mark(line: bytes) -> Fields | None:
    """The number behind the mark, if it has three digits at most."""
    begin = line.find(b"load ") + len(b"load ")
    digits = len(line[begin:]) - len(line[begin:].lstrip(b"0123456789"))
    return Fields(begin - 5, (Field(begin, begin + digits),)) if 0 < digits <= 3 else None


def test_a_number_that_the_plain_reader_refuses_for_its_length_is_not_read_in_bulk() -> None:
    text = b"".join(b"a load %d;\n" % number for number in (1, 22, 333, 4444, 55, 666666, 7))
    assert shapes(after_the_mark).read(text).values[:, 0].tolist() == [1, 22, 333, 55, 7]


def test_a_shape_whose_numbers_move_with_their_lengths_is_not_read_in_bulk() -> None:
    def the_longest(line: bytes) -> Fields:
        """The first number where it has two digits, else the second."""
        ends = [line.index(b" ", 5), line.index(b";")]
        return Fields(0, (Field(5, ends[0]) if ends[0] > 6 else Field(ends[0] + 1, ends[1]),))

    text = b"load 1 2;\nload 10 2;\nload 3 40;\n" * 3
    assert shapes(the_longest).read(text).values[:, 0].tolist() == [2, 10, 40] * 3


def test_decimals_are_read_as_python_reads_them() -> None:
    def decimal(line: bytes) -> Fields:
        return Fields(0, (Field(5, line.index(b";")), ABSENT))

    numbers = [
        f"{whole}.{part}" for whole in (0, 7, 123456789) for part in ("0", "1", "05", "67", "999", "0001", "1" * 17)
    ]
    found = LineShapes((b"load ",), decimal, lambda _head: (0.0, 0.0, 0.0), 2).read(
        "".join(f"load {number};\n" for number in numbers).encode()
    )
    assert found.values[:, 0].tolist() == [float(number) for number in numbers]
    assert np.isnan(found.values[:, 1]).all()


def test_the_last_line_is_read_plainly_where_it_has_no_end() -> None:
    found, others = shapes(after_the_mark).read_alike(b"load 1;\nload 2;\nload 3;")
    assert found.values[:, 0].tolist() == [1, 2]
    assert others == [(2, b"load 3;")]
