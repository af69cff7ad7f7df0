"""Where the outcome of a check goes: the terminal, files, and GitHub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lbal.analyzers.errors import OutputError, UsageError
from lbal.analyzers.output.targets import check_targets, suffix_of
from lbal.analyzers.result.report import REPORTS, report_suffixes
from lbal.analyzers.result.result import Result
from lbal.cli.output.console import deliver, emit, say, write_report


@dataclass(frozen=True)
class GateReports:
    """The reports that were asked for."""

    outputs: Sequence[str]
    named: Sequence[tuple[str, str]]
    """(name of a report, file)."""
    github: bool
    force: bool

    @classmethod
    def of(
        cls, reports: Sequence[str], outputs: Sequence[str], *, force: bool, reads: Sequence[str | None]
    ) -> GateReports:
        """From `--report NAME[=FILE]` and `-o FILE`; refuses what cannot be written before any work is done.

        `reads` names the head, the baseline and the settings: none of them may be written.
        """
        for name in outputs:
            suffix_of(name, report_suffixes())
        named = []
        for text in reports:
            name, _, file = text.partition("=")
            if name == "github":
                if file:
                    raise UsageError(f"--report {text}: github takes no file, expected --report github")
                continue
            REPORTS.get(name)
            if not file:
                raise UsageError(f"--report {text}: it names no file, expected --report {name}=FILE")
            named.append((name, file))
        check_targets([*outputs, *(file for _name, file in named)], force=force, reads=reads)
        return cls(outputs, named, "github" in reports, force)

    def deliver(self, result: Result, *, as_json: bool) -> None:
        """Files first, then GitHub, then the result on stdout. A reader that has gone away changes no verdict."""
        for name, file in self.named:
            write_report(REPORTS.get(name), result, file, force=self.force)
        try:
            if self.github:
                self._tell_github(result, as_json=as_json)
            deliver(result, as_json=as_json, outputs=self.outputs, force=self.force)
        except BrokenPipeError:
            return

    def _tell_github(self, result: Result, *, as_json: bool) -> None:
        from lbal.cli.output.github import append_summary, gate_annotations

        lines = gate_annotations(result)
        if as_json:
            _each_line(lines)
        else:
            emit("".join(f"{line}\n" for line in lines))
        try:
            if not append_summary(REPORTS.get("markdown")().render(result)):
                say("note: GITHUB_STEP_SUMMARY is not set, so there is no summary")
        except OutputError as error:
            say(f"note: {error}")


def _each_line(lines: Sequence[Any]) -> None:
    """To stderr, where GitHub looks too; stdout is the result."""
    import sys

    for line in lines:
        print(line, file=sys.stderr)
