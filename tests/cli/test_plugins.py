"""Policies, formats and reports of other distributions: a broken one is one line, and everything else works."""

from __future__ import annotations

import os
import subprocess
import textwrap

import pytest
from forked_commands import folder_of_lbal

POLICY = """
from dataclasses import dataclass
from typing import ClassVar
from lbal.replay.policy.policy import PlainRouter

@dataclass(frozen=True)
class Mine(PlainRouter):
    '''A policy of somebody else.'''
    name: ClassVar[str] = "mine"
    looks_at: ClassVar[str] = "nothing"

    def choose(self, view, request):
        {body}
"""
FORMAT = """
from lbal.analyzers.trace.reading.base import TraceFormat

class Mine(TraceFormat):
    '''A format of somebody else.'''
    name, content, time_unit = "mine", "requests", "ms"

    @classmethod
    def matches(cls, source):
        {matches}

    def read(self, source, options):
        {body}
"""
REPORT = """
from lbal.analyzers.result.report import Report

class Mine(Report):
    '''A report of somebody else.'''
    name, suffixes, content = "mine", (".mine",), "text"

    def render(self, result):
        {body}
"""
GROUPS = {"policy": "lbal.replay.policies", "format": "lbal.analyzers.formats", "report": "lbal.cli.reports"}
EXITS = ["raise SystemExit", "raise SystemExit('bye')", "raise SystemExit(1)", "raise GeneratorExit", "1 / 0"]
SMALL = ["--dp-size", "2", "--max-num-seqs", "2"]


@pytest.fixture
def installed(tmp_path):
    """Installs a module of somebody else, `mine`, as a plugin of one kind; returns a function that runs lbal with it."""

    def install(kind, text, entry="mine:Mine"):
        (tmp_path / "mine.py").write_text(textwrap.dedent(text))
        info = tmp_path / "theirs-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{GROUPS[kind]}]\nmine = {entry}\n")
        (tmp_path / "t.csv").write_text("input_length,output_length\n" + "5,3\n" * 9)
        return run

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"}
        command = [str(folder_of_lbal() / "lbal"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return install


def refused(done):
    """The one line with which a command was refused."""
    assert (done.returncode, done.stdout) == (2, ""), (done.stdout, done.stderr)
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize("statement", EXITS)
@pytest.mark.parametrize(("kind", "command"), [("policy", "policies"), ("format", "formats"), ("report", "reports")])
def test_a_plugin_that_cannot_be_imported_is_a_warning_and_the_others_work(installed, kind, command, statement):
    lbal = installed(kind, statement)
    done = lbal("list", command)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 5
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"lbal: warning: {kind} plugin 'mine' of theirs (mine:Mine) cannot be used: it fails on import"
    )


@pytest.mark.parametrize("text", ["", "Mine = 3", "class Mine: name = 'mine'"])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("policy", ["replay", "t.csv", *SMALL, "--policy", "mine"]),
        ("format", ["validate", "t.csv", "--format", "mine"]),
    ],
)
def test_a_broken_plugin_that_is_asked_for_is_refused(installed, kind, arguments, text):
    done = installed(kind, text)(*arguments)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("lbal: warning: ")
    assert lines[1].startswith(f"lbal: {kind} plugin 'mine' of theirs (mine:Mine) cannot be used: ")


def test_a_plugin_that_lacks_attributes_says_which(installed):
    text = FORMAT.replace('name, content, time_unit = "mine", "requests", "ms"', 'name = "mine"')
    done = installed("format", text.format(matches="return False", body="pass"))("list", "formats")
    assert "cannot be used: class Mine lacks the attributes content, time_unit, expected" in done.stderr


def test_a_plugin_that_takes_a_name_of_ours_is_left_out_with_both_places(installed):
    done = installed("policy", POLICY.format(body="return 0").replace('"mine"', '"jsq"'))(
        "replay", "t.csv", *SMALL, "--policy", "jsq"
    )
    assert done.returncode == 0
    assert "two classes define the policy 'jsq': lbal.replay.policies.jsq.Jsq and mine.Mine" in done.stderr


@pytest.mark.parametrize("statement", EXITS)
def test_a_rule_that_raises_is_one_line(installed, statement):
    line = refused(
        installed("policy", POLICY.format(body=statement))("replay", "t.csv", *SMALL, "--policy", "mine", "--json")
    )
    assert line.startswith("lbal: policy mine: its rule raised ")


@pytest.mark.parametrize("statement", EXITS)
def test_a_format_that_raises_is_one_line(installed, statement):
    lbal = installed("format", FORMAT.format(matches="return False", body=statement))
    assert refused(lbal("analyze", "t.csv", "--format", "mine")).startswith("lbal: format mine (mine.Mine): it raised ")


@pytest.mark.parametrize("statement", EXITS)
def test_a_format_that_fails_on_what_it_does_not_know_leaves_the_others_alone(installed, statement):
    done = installed("format", FORMAT.format(matches=statement, body="pass"))("validate", "t.csv")
    assert done.returncode == 0
    assert "valid lengths trace" in done.stdout
    assert done.stderr.startswith("lbal: warning: format mine (mine.Mine): it raised ")


@pytest.mark.parametrize("statement", EXITS)
def test_a_report_that_raises_is_one_line_and_writes_nothing(installed, tmp_path, statement):
    lbal = installed("report", REPORT.format(body=statement))
    line = refused(lbal("analyze", "t.csv", "-o", "out.mine"))
    assert line.startswith("lbal: report mine (mine.Mine): it raised ")
    assert not (tmp_path / "out.mine").exists()


def test_an_interrupt_is_an_interrupt_wherever_it_comes(installed):
    done = installed("policy", POLICY.format(body="raise KeyboardInterrupt"))(
        "replay", "t.csv", *SMALL, "--policy", "mine"
    )
    assert done.returncode == 130
