"""What GitHub Actions reads: annotations as workflow commands, and the summary of a step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from lbal.analyzers.errors import OutputError
from lbal.analyzers.plain import seen
from lbal.analyzers.result.result import Result
from lbal.analyzers.wording.differences import gate_sentence, gate_status

MOST_SUMMARY_BYTES = 1024 * 1024 - 16 * 1024
"""GitHub refuses summaries of more than 1 MiB; some of it is left to other steps' lines in the same file."""
MESSAGE, PROPERTY = "%\r\n", "%\r\n:,"
"""What must be escaped in the message of a workflow command, and in its properties."""
CUT = "\n\nThe rest of this summary is left out: it is longer than GitHub shows.\n"


def gate_annotations(result: Result) -> list[str]:
    """A workflow command of each gate: an error where it failed, a warning or a notice else."""
    return [_annotation(gate) for gate in result.check["gates"]]


def _annotation(gate: Mapping[str, Any]) -> str:
    status = gate_status(gate)
    level = "error" if gate["fails"] else "notice" if status == "passed" else "warning"
    title = _escaped(f"lbal: {gate['gate']} {status} ({gate['run']})", PROPERTY)
    return f"::{level} title={title}::{_escaped(gate_sentence(gate), MESSAGE)}"


def _escaped(text: str, characters: str) -> str:
    text = seen(text.replace("\r", ""))
    for character in characters:
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def append_summary(text: str) -> bool:
    """Append Markdown to the summary of the step; False where GitHub has not said where that is."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return False
    content = text.encode()
    if len(content) > MOST_SUMMARY_BYTES:
        content = content[: MOST_SUMMARY_BYTES - len(CUT)].decode(errors="ignore").encode() + CUT.encode()
    try:
        with open(name, "ab") as file:
            file.write(content + b"\n")
    except OSError as error:
        raise OutputError(f"{name}: the summary cannot be written: {error.strerror or error}") from error
    return True
