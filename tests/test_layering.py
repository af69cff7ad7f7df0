"""Dependencies point one way, cli -> replay -> analyzers, and asking for help loads nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("analyzers", "replay", "cli")
FORBIDDEN = {
    "analyzers": ("lbal.replay", "lbal.cli"),
    "replay": ("lbal.cli",),
    "cli": (),
}
HEAVY = ("altair", "numba", "numpy", "ortools", "polars", "rich", "vl_convert")


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


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


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_none_above_it(package):
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imported(path)
        if any(is_within(name, other) for other in FORBIDDEN[package])
    ]
    assert modules(package)
    assert found == []


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
