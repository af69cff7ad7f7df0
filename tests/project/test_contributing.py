"""CONTRIBUTING.md sends people only to what is there: commands, names of checks, folders, sections."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CI_RUN = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
KINDS = ("policy", "format", "log reader", "report", "metric", "prefill rule")
SHELL = ("python3", "python", "pip", ".", "pre-commit")
"""Commands that come with Python, with the shell, or that the text says how to install."""


def tools():
    """Names of what `pip install -e '.[dev]'` brings."""
    extras = PROJECT["optional-dependencies"]
    return {re.match(r"[\w-]+", item)[0] for extra in ("test", "dev") for item in extras[extra]}


def commands():
    """Every command of the page: lines of its code blocks, and what begins like one in backticks."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    lines = [part for block in blocks for line in block.splitlines() for part in line.split(" && ")]
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))
    starts = {*SHELL, *tools(), ".ci/run", ".ci/gate"} - {"lbal"}
    return lines + [text for text in quoted if text.split()[0] in starts]


def test_the_page_has_commands():
    assert {"mypy", "ruff check .", ".ci/run style", "python docs/refresh.py --check"} <= set(commands())


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_a_command_of_the_page_exists(command):
    words = command.replace(".venv/bin/", "").split()
    if words[0] == ".ci/run":
        assert set(words[1:]) <= parts_of_the_check()
    elif words[0].startswith(".ci/"):
        assert (ROOT / words[0]).stat().st_mode & 0o100
    elif words[:2] == ["python", "-m"]:
        assert words[2] in tools()
    elif words[0] == "python":
        assert (ROOT / words[1]).is_file()
    elif words[0] not in SHELL:
        assert words[0] in tools()
    for word in words[1:]:
        if re.fullmatch(r"(tests|docs|sample_traces|\.ci)/[\w/.-]+", word):
            assert (ROOT / word).exists(), word


def test_packages_that_the_page_installs_are_extras_of_the_project():
    extras = re.findall(r"-e '?\.\[(\w+)\]", TEXT)
    assert extras
    assert set(extras) <= set(PROJECT["optional-dependencies"])


def parts_of_the_check():
    """The names that `.ci/run` takes, as it says itself when it gets another one."""
    done = subprocess.run([ROOT / ".ci" / "run", "nonsense"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    return set(done.stderr.partition("expected some of: ")[2].split())


def test_the_page_names_every_part_of_the_check_and_each_is_a_function_of_it():
    named = set(re.findall(r"`\.ci/run (\w+)`", TEXT))
    assert named == parts_of_the_check() == {"style", "types", "tests", "docs", "gate", "wheel", "pythons"}
    assert named <= set(re.findall(r"^(\w+)\(\) \{", CI_RUN, re.MULTILINE))


def test_every_file_and_folder_that_the_page_names_is_there():
    paths = re.findall(r"`((?:tests|docs|sample_traces|benchmarks|analyzers|replay|cli|lbal|\.ci)/[\w/.-]*)`", TEXT)
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_there_is_a_recipe_of_every_kind_of_thing_that_can_be_added(kind):
    recipes = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    heading = f"a {kind}"
    assert f"[{heading}](docs/extending.md#{heading.replace(' ', '-')})" in TEXT
    section = recipes.partition(f"\n## {heading.capitalize()}\n")[2].partition("\n## ")[0]
    assert section.strip()


def test_every_file_that_the_recipes_name_is_there():
    recipes = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    paths = re.findall(r"`((?:tests|analyzers|replay|cli)/[\w/.-]*)`", recipes)
    assert len(paths) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_hooks_before_a_commit_run_the_tools_of_the_environment_and_fetch_nothing():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert [hook["entry"].split()[0] for hook in hooks] == ["ruff", "ruff", "mypy"]
    assert {hook["language"] for hook in hooks} == {"system"}


def test_the_supported_pythons_are_those_of_the_metadata_in_every_place():
    versions = [item.rpartition(" ")[2] for item in PROJECT["classifiers"] if "Python :: 3." in item]
    assert versions == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert f"Python {', '.join(versions[:-1])} or {versions[-1]}." in TEXT


def test_the_changelog_has_what_is_not_released_and_the_version_of_the_metadata():
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:2] == ["Unreleased", PROJECT["version"]]
