"""What the tests of readers share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.reading.base import ReadOptions
from lbal.analyzers.trace.trace import Trace


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Trace]:
    """Reads a text as the log of a server, with options of reading."""

    def read_text(text: str | bytes, **options) -> Trace:
        path = tmp_path / "server.log"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_trace(path, options=ReadOptions(**options))

    return read_text
