"""The CI recipes of docs/ci.md, run as they stand, with a good and a bad router; and lbal's gate on its own samples."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from forked_commands import folder_of_lbal

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "docs" / "examples" / "ci"
GATES = '[check]\nbaseline = "ci/baseline.json"\nfail-on = ["barrier_idle_fraction:+5%", "tpot_ms_p99<=60"]\n'
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="the recipes need git")


def shell(command, cwd, **environment):
    path = os.pathsep.join([str(folder_of_lbal()), str(Path(sys.executable).parent), os.environ["PATH"]])
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("GITHUB_", "CI"))}
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=cwd,
        env={**clean, **ENVIRONMENT, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def run(command, cwd, **environment):
    done = shell(command, cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def policy_class(module):
    import importlib

    from lbal.analyzers.registry import classes_in
    from lbal.replay.policy.policy import Policy

    return next(classes_in(importlib.import_module(f"lbal.replay.policies.{module}"), Policy))


def router(module):
    name = policy_class(module).__name__
    return f'from lbal.replay.policies.{module} import {name} as Base\n\n\nclass Router(Base):\n    name = "router"\n'


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A repository whose main branch has a good router and its baseline, and whose branch `change` has a bad one."""
    folder = tmp_path_factory.mktemp("origin") / "a project ü"
    (folder / "ci").mkdir(parents=True)
    shutil.copy(CI / "lbal-gate.sh", folder / "ci")
    lines = (ROOT / "sample_traces" / "requests_2000.jsonl").read_text().splitlines(keepends=True)
    (folder / "traffic.jsonl").write_text("".join(lines[:401]))
    (folder / "lbal.toml").write_text(GATES)
    (folder / "router.py").write_text(router("jsq"))
    run("git init -q -b main && ci/lbal-gate.sh --record && git add . && git commit -qm good", folder)
    (folder / "README").write_text("a change that changes nothing\n")
    run("git checkout -qb harmless && git add . && git commit -qm harmless", folder)
    (folder / "router.py").write_text(router("fcfs"))
    run("git checkout -qb change && git add . && git commit -qm bad && git checkout -q main", folder)
    return folder


@pytest.fixture
def clone(origin, tmp_path):
    def at(branch):
        folder = tmp_path / branch
        run(f"git clone -q -b {branch} '{origin}' '{folder}'", tmp_path)
        return folder

    return at


def test_the_script_passes_a_harmless_change(clone):
    done = shell("ci/lbal-gate.sh origin/main", clone("harmless"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("No gate failed of 2.")


@pytest.mark.parametrize("against", ["", "origin/main"])
def test_the_script_fails_a_bad_change(clone, against):
    folder = clone("change")
    done = shell(f"ci/lbal-gate.sh {against}", folder)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED       barrier_idle_fraction:+5% (router)" in done.stdout
    root = ElementTree.fromstring((folder / "lbal.xml").read_text())
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert run("git worktree list", folder).count("\n") == 1
    assert run("git status --porcelain", folder).split() == ["??", "lbal.xml"]


def test_the_script_records_a_new_baseline_and_then_passes(clone):
    folder = clone("change")
    run("ci/lbal-gate.sh --record", folder)
    assert shell("ci/lbal-gate.sh", folder).returncode == 0
    assert run("git status --porcelain", folder).splitlines()[0] == " M ci/baseline.json"


def test_other_traffic_is_no_failed_gate(clone):
    folder = clone("harmless")
    text = (folder / "traffic.jsonl").read_text().splitlines(keepends=True)
    (folder / "traffic.jsonl").write_text("".join(text[:-1]))
    done = shell("ci/lbal-gate.sh", folder)
    assert done.returncode == 2
    assert "trace: sha256" in done.stderr


@pytest.fixture
def fake_pip(tmp_path):
    """Installing is not what is tested: a `pip` that notes what it was asked for."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "pip").write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/pip.log"\n')
    (folder / "pip").chmod(0o755)
    return os.pathsep.join([str(folder), str(folder_of_lbal()), os.environ["PATH"]])


def test_the_github_workflow_annotates_and_summarises(clone, fake_pip, tmp_path):
    workflow = yaml.safe_load((CI / "github.yml").read_text())
    steps = [step for step in workflow["jobs"]["load-balance"]["steps"] if "run" in step]
    assert [step["run"] for step in steps] == [
        'pip install "$LBAL_SOURCE"',
        "ci/lbal-gate.sh",
        'ci/lbal-gate.sh "origin/$GITHUB_BASE_REF"',
    ]
    summary, folder = tmp_path / "summary.md", clone("change")
    environment = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_BASE_REF": "main",
        "GITHUB_STEP_SUMMARY": str(summary),
        "LBAL_SOURCE": "./lbal.whl",
        "PATH": fake_pip,
    }
    done = [shell(step["run"], folder, **environment) for step in steps]
    assert [each.returncode for each in done] == [0, 1, 1], [each.stdout + each.stderr for each in done]
    for each in done[1:]:
        annotations = [line.split()[0] for line in each.stdout.splitlines() if line.startswith("::")]
        assert annotations == ["::error", "::notice"]
    assert summary.read_text().count("## lbal check") == 2
    assert (tmp_path / "pip.log").read_text() == "install ./lbal.whl\n"


@pytest.mark.parametrize(("stored", "computed", "expected"), [(0, 0, 0), (1, 0, 1), (0, 1, 1), (2, 0, 2)])
def test_the_gitlab_job_ends_with_the_code_of_the_gate(clone, fake_pip, stored, computed, expected):
    (job,) = yaml.safe_load((CI / "gitlab.yml").read_text()).values()
    assert job["artifacts"]["reports"]["junit"] == "lbal.xml"
    folder = clone("change")
    # What the script does is tested above; this one ends with the given codes.
    verdict = f'[ $# -eq 0 ] && exit {stored}\ngit log --format=%s -1 "$1"\nexit {computed}\n'
    (folder / "ci" / "lbal-gate.sh").write_text(f'#!/bin/sh\necho "gate $*"\n{verdict}')
    environment = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main", "LBAL_SOURCE": "x", "PATH": fake_pip}
    done = shell("\n".join(job["script"]), folder, **environment)
    assert done.returncode == expected, done.stderr
    assert done.stdout.splitlines() == (["gate "] if stored else ["gate ", "gate FETCH_HEAD", "good"])


def test_the_settings_of_the_document_are_valid(tmp_path):
    from lbal.analyzers.compare.gate import parse_gate
    from lbal.cli.options.gate_config import check_settings

    settings = check_settings(str(CI / "lbal.toml"))
    assert len([parse_gate(text, "fail") for text in (*settings.fail_on, *settings.warn_on)]) == 5


# --- the gate of lbal on its own samples ---


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "sample_traces", folder / "sample_traces")
    (folder / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "gate", folder / ".ci")
    return folder


def test_the_samples_give_the_recorded_figures(checkout):
    out = run(".ci/gate", checkout)
    assert out.count("No gate failed of ") == 3


def test_a_number_that_moves_fails_the_gate_in_either_direction_until_it_is_recorded(checkout):
    baselines = checkout / "sample_traces" / "baselines"
    moved = {"analyze_skewed_8_ranks": 1.0001, "replay_requests_2000": 0.9999}
    before = {name: (baselines / f"{name}.json").read_bytes() for name in moved}
    for name, factor in moved.items():
        record = json.loads(before[name])
        record["runs"][0]["metrics"]["barrier_idle_fraction"]["value"] *= factor
        (baselines / f"{name}.json").write_text(json.dumps(record))
    done = shell(".ci/gate", checkout)
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 2
    assert "0.031" in failed[0]
    assert "0.134" in failed[1]
    run(".ci/gate --record", checkout)
    assert shell(".ci/gate", checkout).returncode == 0
    assert {name: json.loads((baselines / f"{name}.json").read_bytes()) for name in moved} == {
        name: json.loads(text) for name, text in before.items()
    }


def test_a_command_that_fails_is_no_failed_gate(checkout, tmp_path):
    broken = tmp_path / "lbal"
    broken.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    broken.chmod(0o755)
    done = shell(".ci/gate", checkout, LBAL=str(broken))
    assert done.returncode == 2
    assert "broken" in done.stdout


def test_the_check_of_a_change_runs_the_gate():
    assert ".ci/gate" in (ROOT / ".ci" / "run").read_text()
