"""Helpers that rules call: compiled with them, and anew when they change."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

HELPER = """
    from lbal.replay.policy.compilable import {mark}

    @{mark}
    def favourite(view):
        return {answer}
"""
POLICY = """
    from dataclasses import dataclass
    from typing import ClassVar
    from helper import favourite
    from lbal.replay.policy.policy import Router

    @dataclass(frozen=True)
    class Favourite(Router):
        '''Always the same rank.'''
        name: ClassVar[str] = "favourite"
        looks_at: ClassVar[str] = "nothing"

        @staticmethod
        def choose(view, request):
            return favourite(view)
"""
RUN = """
    import numpy as np, polars as pl
    from lbal.analyzers.barrier.step_time import StepTimeModel
    from lbal.replay.engine.engine import replay
    from lbal.replay.scenario.cluster import Cluster, Conditions
    from lbal.replay.policy.policy import parse_policy
    from lbal.replay.scenario.workload import Workload

    ones = np.ones(3, np.int64)
    workload = Workload("test", pl.Series("request_id", np.arange(3)), ones, ones, None, None)
    cluster = Cluster(2, 4, StepTimeModel("test", shared_s=0.01, per_token_s=1e-6))
    replayed = replay(workload, cluster, parse_policy("mine.py:Favourite"), Conditions("backlog"))
    print(replayed.trace.requests["rank"].to_list())
"""


@pytest.mark.parametrize("mark", ["jitable", "frugal"])
def test_a_rule_is_compiled_with_its_helpers_and_anew_when_they_change(tmp_path, mark):
    (tmp_path / "mine.py").write_text(textwrap.dedent(POLICY))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    for answer in ("view.dp_size - 1", "view.dp_size - 2"):
        (tmp_path / "helper.py").write_text(textwrap.dedent(HELPER.format(mark=mark, answer=answer)))
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(RUN)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == f"{[1 if answer.endswith('1') else 0] * 3}\n"
