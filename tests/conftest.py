"""Shared by the tests: where real traces lie, and small workloads."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lbal.replay.scenario.workload import Workload

os.environ.pop("COLUMNS", None)  # parallel test runs set it, and the width of tables with it
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip("the real traces (shared/ beside the checkout) are not here")
    return SHARED


@pytest.fixture
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
