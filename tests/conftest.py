"""Shared by the tests: the checkout that they test, where real traces lie, and small workloads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import lbal
from lbal.replay.scenario.workload import Workload

ROOT = Path(__file__).resolve().parents[1]
if not ROOT.samefile(Path(lbal.__file__).parents[1]):
    raise pytest.UsageError(
        f"lbal is imported from {Path(lbal.__file__).parent}, not from {ROOT}: run `python -m pytest` in {ROOT}"
    )
# Processes that tests start use this checkout too, whatever is installed.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.pop("COLUMNS", None)  # parallel test runs set it, and the width of tables with it
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    if SHARED.is_dir():
        return SHARED
    missing = f"the real traces are not here: {SHARED}"
    if os.environ.get("CI") and not os.environ.get("LBAL_WITHOUT_SHARED"):
        pytest.fail(f"{missing}; CI is set, so this is no skip (LBAL_WITHOUT_SHARED=1 allows it)", pytrace=False)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def workload_of():
    """Makes a workload from lists: prompts, outputs, and arrivals in ms or None."""

    def make(prompts, outputs, arrivals=None, ranks=None) -> Workload:
        return Workload(
            source="test",
            request_id=pl.Series("request_id", np.arange(len(prompts))),
            prompt_tokens=np.asarray(prompts, np.int64),
            output_tokens=np.asarray(outputs, np.int64),
            arrival_ms=None if arrivals is None else np.asarray(arrivals, np.float64),
            recorded_rank=None if ranks is None else np.asarray(ranks, np.int64),
        )

    return make


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Neighbouring tests go to one worker, which makes their fixtures once; a worker that is done takes from the other."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


def pytest_addoption(parser):
    parser.addoption(
        "--mangled-lines", type=int, default=2000, help="mangled lines a format of logs that test_mangled_logs.py tries"
    )
