"""The names that a notebook needs stand in `lbal`, and none appears or goes without being meant."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import lbal

SAMPLES = Path(__file__).resolve().parents[2] / "sample_traces"
NAMES = {
    "METRICS", "POLICIES", "InputError", "LbalError", "OutputError", "PolicyError", "ReadOptions", "Result", "Run",
    "Trace", "UsageError", "__version__", "advise", "analyze", "calibrate", "check", "compare", "load_result", "read_trace",
    "replay", "write_native", "write_parquet",
}  # fmt: skip


def test_the_public_names_are_these():
    assert set(lbal.__all__) == NAMES
    assert set(dir(lbal)) == NAMES


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__", "METRICS", "POLICIES"}))
def test_every_public_name_can_be_called_and_says_what_it_is(name):
    value = getattr(lbal, name)
    assert callable(value)
    assert value.__doc__


def test_the_version_is_that_of_the_metadata():
    assert lbal.__version__ == version("lbal")


def test_a_name_that_is_not_there_is_no_attribute():
    with pytest.raises(AttributeError, match="module 'lbal' has no attribute 'analyse'"):
        _ = lbal.analyse


def test_importing_lbal_loads_no_other_library():
    code = "import sys, lbal; print([n for n in ('numpy', 'polars', 'numba', 'rich', 'typer') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_replay_is_the_call_and_stays_a_package():
    from lbal.replay.experiment.replaying import replay

    assert inspect.ismodule(lbal.replay)
    trace = lbal.read_trace(SAMPLES / "skewed_8_ranks.jsonl")
    assert repr(lbal.replay(trace, policies=["jsq"])) == repr(replay(trace, policies=["jsq"]))


def test_errors_of_the_library_name_parameters_and_no_flags():
    trace = lbal.read_trace(SAMPLES / "requests_2000.jsonl")
    with pytest.raises(
        lbal.UsageError, match=r"^pool: 5 has no meaning .* expected arrivals=backlog beside it$"
    ) as caught:
        lbal.replay(trace, dp_size=2, max_num_seqs=4, pool=5)
    assert str(caught.value.parameter) == "pool"
    with pytest.raises(lbal.UsageError, match=r"^window: 'al' is not known, expected all, admissions or steady$"):
        lbal.analyze(trace, window="al")
