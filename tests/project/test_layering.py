"""Dependencies point one way, between packages and between folders, and asking for help loads nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("analyzers", "replay", "cli")
HEAVY = ("altair", "numba", "numpy", "ortools", "polars", "rich", "vl_convert")
MOST_FLAT_FILES = 8

TABLE = {
    # analyzers: what happened
    "analyzers": "",
    "analyzers/trace": "analyzers",
    "analyzers/trace/reading": "analyzers analyzers/trace",
    "analyzers/trace/formats": "analyzers analyzers/trace analyzers/trace/reading",
    "analyzers/trace/writing": "analyzers analyzers/trace analyzers/trace/reading",
    "analyzers/requests": "analyzers analyzers/trace",
    "analyzers/statistics": "analyzers analyzers/trace",
    "analyzers/barrier": "analyzers analyzers/trace analyzers/statistics",
    "analyzers/metrics": "analyzers/trace analyzers/barrier analyzers/requests",
    "analyzers/energy": "analyzers analyzers/trace analyzers/barrier analyzers/metrics",
    "analyzers/calibration": "analyzers analyzers/trace analyzers/barrier analyzers/statistics",
    "analyzers/models": "analyzers analyzers/trace/formats analyzers/barrier analyzers/energy analyzers/calibration",
    "analyzers/models/data": "",
    "analyzers/output": "analyzers",
    "analyzers/result": "analyzers analyzers/trace analyzers/barrier analyzers/metrics analyzers/output",
    "analyzers/compare": "analyzers analyzers/statistics analyzers/trace analyzers/barrier analyzers/energy analyzers/metrics analyzers/result",
    "analyzers/wording": "analyzers analyzers/trace analyzers/barrier analyzers/metrics analyzers/energy analyzers/result "
    "analyzers/compare",
    "analyzers/analysis": "analyzers analyzers/trace analyzers/requests analyzers/barrier analyzers/metrics analyzers/energy "
    "analyzers/calibration analyzers/models analyzers/result analyzers/compare analyzers/wording analyzers/statistics",
    # replay: what would have happened
    "replay": "analyzers* replay/experiment",
    "replay/scenario": "analyzers* replay/policy replay/prefill",
    "replay/policy": "analyzers*",
    "replay/prefill": "analyzers* replay/policy",
    "replay/prefills": "analyzers* replay/policy replay/prefill",
    "replay/engine": "analyzers* replay/scenario replay/policy replay/prefill",
    "replay/solver": "analyzers* replay/policy replay/engine",
    "replay/policies": "analyzers* replay/policy replay/engine replay/solver",
    "replay/experiment": "analyzers* replay/scenario replay/policy replay/prefill replay/engine replay/policies",
    "replay/advice": "analyzers* replay/policy replay/prefill replay/engine replay/experiment",
    # cli: saying it
    "cli/options": "analyzers*",
    "cli/reports/parts": "analyzers*",
    "cli/reports/page": "analyzers* cli/reports cli/reports/parts",
    "cli/reports": "analyzers* cli/reports/parts cli/reports/page",
    "cli/output": "analyzers* replay* cli/reports",
    "cli/commands": "analyzers* replay* cli/options cli/reports cli/output",
    "cli": "analyzers* cli/commands",
}
"""Folder -> folders that its files may import, beside their own; `x*` is x and all in it. Lower ones stand first."""


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def folder_of(path):
    return path.parent.relative_to(ROOT).as_posix()


def imported(path):
    """Dotted names of all that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def is_within(name, package):
    return name == package or name.startswith(package + ".")


def imported_folders(path):
    """The folders that a file imports from, without its own."""
    found = {}
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "lbal" or len(parts) == 1:
            continue
        assert parts[1] in PACKAGES, f"{path} imports {name}: the public face is for users of lbal"
        folder = Path(parts[1])
        for part in parts[2:]:
            if not (ROOT / folder / part).is_dir():
                break
            folder /= part
        found[folder.as_posix()] = name
    found.pop(folder_of(path), None)
    return found


def may_import(folder, other):
    return any(
        other == allowed or (allowed.endswith("*") and is_within(other.replace("/", "."), allowed[:-1]))
        for allowed in TABLE[folder].split()
    )


def test_the_table_names_every_folder_of_code():
    assert set(TABLE) == {folder_of(path) for package in PACKAGES for path in modules(package)}


def test_the_page_for_contributors_has_a_line_for_every_folder_of_the_table():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = dict(re.findall(r"^\| `([\w/]+)/` \| (.+) \|$", text, re.MULTILINE))
    assert set(lines) == set(TABLE), "run python docs/refresh.py CONTRIBUTING.md"
    assert all(line.endswith(".") for line in lines.values())


@pytest.mark.parametrize("folder", TABLE)
def test_a_folder_imports_only_what_the_table_allows(folder):
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).glob("*.py"))
        for other, name in imported_folders(path).items()
        if not may_import(folder, other)
    ]
    assert found == []


def test_the_table_has_no_circle_but_between_the_page_and_its_report():
    arrows = {folder: {other for other in TABLE if may_import(folder, other)} - {folder} for folder in TABLE}
    arrows["cli/reports/page"].discard("cli/reports")
    while free := [folder for folder, others in arrows.items() if not others]:
        for folder in free:
            del arrows[folder]
        for others in arrows.values():
            others.difference_update(free)
    assert arrows == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_few_files_lie_flat_in_a_package(package):
    assert len(list((ROOT / package).glob("*.py"))) <= MOST_FLAT_FILES


def test_tests_lie_in_the_folders_of_what_they_test():
    folders = {folder_of(path)[len("tests/") :] for path in (ROOT / "tests").rglob("test_*.py")}
    assert {folder for folder in folders if folder != "project" and folder not in TABLE} == set()


def test_nobody_imports_a_package_by_its_folder_name():
    places = [*PACKAGES, "tests", "docs", "sample_traces", "benchmarks"]
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for place in places
        for path in modules(place)
        for name in imported(path)
        if any(is_within(name, package) for package in PACKAGES)
    ]
    assert found == []


def test_the_sample_generator_depends_on_nothing_of_lbal():
    names = imported(ROOT / "sample_traces" / "generate.py")
    assert [name for name in names if is_within(name, "lbal")] == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["replay", "--help"], ["analyze", "--help"]])
def test_asking_for_help_imports_no_heavy_library(arguments):
    start = f"import sys; sys.argv = {['lbal', *arguments]!r}; from lbal.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", start], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    loaded = re.findall(r"^import time:.*\|\s*([\w.]+)$", done.stderr, re.MULTILINE)
    assert "lbal.cli.main" in loaded
    assert [name for name in loaded if name.partition(".")[0] in HEAVY] == []
