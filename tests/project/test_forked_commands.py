"""The commands that tests start quickly behave as those of a shell do: streams, pipes, environment and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forked_commands import folder_of_lbal

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"


def shell(command, programs=(), **environment):
    path = os.pathsep.join([*map(str, programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=SAMPLES,
        env=os.environ | {"PATH": path} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ("lbal --version", {}),
        ("lbal analyze two_ranks_three_steps.jsonl 2> /dev/null | sed -n 1p", {}),
        ("lbal analyze skewed_8_ranks.jsonl > /dev/null", {}),
        ("lbal validate nowhere.jsonl", {}),
        ("lbal validate - < two_ranks_three_steps.jsonl", {}),
        ("lbal analyze skewed_8_ranks.jsonl", {"COLUMNS": "60"}),
        ("lbal analyze skewed_8_ranks.jsonl | sed -n 3p", {"PYTHONIOENCODING": "ascii"}),
        ("lbal list metrics >&-", {}),
        ("lbal list metrics > /dev/full", {}),
        ("lbal list metrics | head -n 1; echo ${PIPESTATUS[0]}", {}),
    ],
)
def test_a_forked_command_prints_and_exits_as_one_in_a_fresh_interpreter_does(command, environment):
    assert shell(command, [folder_of_lbal()], **environment) == shell(command, **environment)


def test_without_the_server_the_commands_fail_rather_than_print_nothing(tmp_path):
    broken = tmp_path / "lbal"
    broken.write_text((folder_of_lbal() / "lbal").read_text().replace("/socket", "/elsewhere"))
    broken.chmod(0o755)
    code, out, err = shell("lbal --version", [tmp_path])
    assert code != 0
    assert out == ""
    assert "Error" in err
