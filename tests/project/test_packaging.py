"""What is installed is what is in the tree: packages, data, types, licence, version."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions, version
from importlib.resources import files
from pathlib import Path

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MODELS = json.loads(files("lbal.analyzers.models.data").joinpath("models.json").read_text(encoding="utf-8"))


TOPS = ("analyzers", "replay", "cli")


def code_folders():
    return {path.parent for top in TOPS for path in (ROOT / top).rglob("*.py")}


@pytest.mark.parametrize("top", TOPS)
def test_the_package_is_a_link_to_its_folder(top):
    assert (ROOT / "lbal" / top).samefile(ROOT / top)
    assert (ROOT / "lbal" / top).readlink() == Path("..") / top


def test_every_folder_of_code_is_a_package_that_gets_installed():
    missing = [folder for folder in code_folders() if not (folder / "__init__.py").is_file()]
    assert missing == []
    found = setuptools.find_packages(str(ROOT), include=["lbal", "lbal.*"])
    assert set(found) == {"lbal"} | {"lbal." + ".".join(folder.relative_to(ROOT).parts) for folder in code_folders()}


def test_every_file_that_is_not_python_is_declared_as_package_data():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["*"]
    for folder in code_folders():
        present = {path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc")}
        assert present == {path for pattern in patterns for path in folder.glob(pattern)}, folder


@pytest.mark.parametrize("package", ["lbal", "lbal.analyzers", "lbal.replay", "lbal.cli"])
def test_packages_are_marked_as_typed(package):
    assert files(package).joinpath("py.typed").is_file()


def test_the_version_of_the_command_is_that_of_the_metadata():
    code = "import sys; sys.argv = ['lbal', '--version']; from lbal.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"lbal {version('lbal')}\n"
    assert version("lbal") == PROJECT["project"]["version"]


@pytest.mark.parametrize("module", ["lbal", "lbal.cli"])
def test_the_package_runs_as_the_command_does(module):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"lbal {version('lbal')}\n"


def test_the_command_is_an_entry_point():
    (entry,) = distribution("lbal").entry_points.select(group="console_scripts", name="lbal")
    assert entry.value == "lbal.cli.main:main"


def test_the_licence_is_the_whole_apache_licence():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "Copyright [yyyy] [name of copyright owner]" in text


def test_the_declared_dependencies_are_the_libraries_that_are_imported():
    declared = {re.match(r"[\w-]+", item)[0].lower() for item in PROJECT["project"]["dependencies"]}
    used = set()
    for top in ("analyzers", "replay", "cli"):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module] if isinstance(node, ast.ImportFrom) else []
                used |= {name.partition(".")[0] for name in names}
    packages = packages_distributions()
    foreign = used - set(sys.stdlib_module_names) - {"lbal"}
    assert {packages.get(name, [name])[0].lower() for name in foreign} == declared


@pytest.mark.parametrize("name", sorted(MODELS["step"]))
def test_every_step_model_has_coefficients_that_can_be(name):
    record = MODELS["step"][name]
    assert record["C"] > 0
    assert record["a"] > 0
    assert all(record.get(key, 0) >= 0 for key in ("b_max", "b_engine", "b_mean"))
    assert record["confidence"]
    assert record["note"]


@pytest.mark.parametrize("name", sorted(name for name, record in MODELS["step"].items() if "prefill" in record))
def test_coefficients_of_prefill_have_ordered_bounds_and_a_source(name):
    prefill = MODELS["step"][name]["prefill"]
    assert {"p"} <= prefill.keys() <= {"p", "e", "C_x", "src", "confidence"}
    assert prefill["src"]
    assert prefill["confidence"]
    for key in prefill.keys() & {"p", "e", "C_x"}:
        assert 0 < prefill[key]["low"] <= prefill[key]["nominal"] <= prefill[key]["high"]


@pytest.mark.parametrize("name", sorted(name for name, record in MODELS["power"].items() if "busy" in record))
def test_every_power_model_has_ordered_bounds_and_sources(name):
    record = MODELS["power"][name]
    for state in ("wait", "busy"):
        assert 0 < record[state]["low"] <= record[state]["nominal"] <= record[state]["high"]
    assert record["wait"]["nominal"] < record["busy"]["nominal"]
    assert record["src"]
