"""An interrupt is one line and exit code 130, whenever it comes; nothing half-written and no process stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
pytestmark = POSIX
INTERRUPTED = 130


def started(*arguments, code="from lbal.cli.main import main; main()", cwd=None):
    """The command in a session of its own, as a terminal runs it."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True
    )


def children(pid):
    """Process ids of all that a process started, and their own, from /proc."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == pid:
                found += [int(name), *children(int(name))]
    return found


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def many(tmp_path):
    (tmp_path / "many.csv").write_text("input_length,output_length\n" + "100,40\n" * 100_000)
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("delay_s", [0.15, 0.3, 0.6, 1.0])
def test_an_early_signal_is_one_line_whatever_is_being_imported(many, number, delay_s):
    process = started("replay", "many.csv", "--dp-size", "4", "--max-num-seqs", "8", "--repeat", "500", cwd=many)
    time.sleep(delay_s)
    os.killpg(process.pid, number)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (INTERRUPTED, "", "lbal: interrupted\n")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_the_parent_whatever_ends_it(many, number):
    flags = ["--dp-size", "4", "--max-num-seqs", "8", "--policy", "jsq", "--repeat", "1000", "--jobs", "2"]
    process = started("replay", "many.csv", *flags, cwd=many)
    deadline = time.monotonic() + 90
    while len(workers := children(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(workers) >= 3, "two workers, and what looks after their memory"
    time.sleep(2)
    process.send_signal(number)
    _out, error = process.communicate(timeout=60)  # their stderr is the same: it closes when the last one has ended
    if number != signal.SIGKILL:
        assert (process.returncode, error) == (INTERRUPTED, "lbal: interrupted\n")
    time.sleep(0.5)
    assert not [pid for pid in workers if alive(pid)]


def test_a_draft_goes_with_the_interrupt(many):
    code = (
        "import time\nimport lbal.analyzers.output.files as files\nfrom lbal.cli.main import main\n"
        "import lbal.analyzers.trace.writing.native as native\n"
        "def slow(trace, path):\n    path.write_text('half')\n    print('writing', flush=True)\n    time.sleep(60)\n"
        "native.write_native = slow\nmain()"
    )
    process = started("convert", "many.csv", "out.jsonl", code=code, cwd=many)
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGTERM)
    _out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (INTERRUPTED, "lbal: interrupted\n")
    assert [path.name for path in many.iterdir()] == ["many.csv"]


SWALLOWING = """
import time
import lbal.cli.interrupts as interrupts
interrupts.PATIENCE_S = 0.5
import lbal.cli.main as entry
def run(arguments):
    print("ready", flush=True)
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
entry.run = run
entry.main()
"""
IN_A_DESTRUCTOR = """
import time
import lbal.cli.main as entry
class Last:
    def __del__(self):
        print("ready", flush=True)
        time.sleep(60)
def run(arguments):
    Last()
    return 0
entry.run = run
entry.main()
"""


@pytest.mark.parametrize("code", [SWALLOWING, IN_A_DESTRUCTOR], ids=["swallowed", "in a destructor"])
def test_an_interrupt_that_code_swallows_ends_the_process_all_the_same(code):
    process = started(code=code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _out, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (INTERRUPTED, "lbal: interrupted\n")


def test_a_signal_that_was_ignored_at_the_start_stays_ignored(many):
    command = ["sh", "-c", f"trap '' HUP; exec {sys.executable} -m lbal.cli validate many.csv"]
    process = subprocess.Popen(command, cwd=many, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0.3)
    process.send_signal(signal.SIGHUP)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert "valid lengths trace" in out
