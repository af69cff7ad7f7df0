"""A metric is one record: what follows from it in results, reports and documents."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lbal.analyzers.analysis.analysis import analyze_steps
from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.folded import AccountFold
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.energy.binned_sums import columns_of, step_series
from lbal.analyzers.energy.power import EnergyView
from lbal.analyzers.metrics import METRICS, Bases, Measure, Metric, add_ranges, names_in
from lbal.analyzers.metrics.metric import Place
from lbal.analyzers.models.power_models import power_presets
from lbal.analyzers.trace.formats import read_trace
from lbal.analyzers.trace.trace import StepArrays
from lbal.cli.main import run

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "sample_traces"
PLACES = Place.__args__
MODEL = StepTimeModel("test", shared_s=0.02, per_token_s=1e-7, per_request_s=1e-4)
NEW = Metric(
    "kv_tokens_mean_per_rank",
    "KV tokens",
    "neither",
    "KV tokens of a rank, mean",
    "mean over steps of sum(L) / G",
    rests_on=("loads",),
    of_steps=lambda steps: steps.totals.kv_tokens / steps.totals.steps / steps.totals.dp_size,
    shown={"comparison": 35},
)


@pytest.fixture
def new_metric(monkeypatch):
    monkeypatch.setitem(METRICS, NEW.name, NEW)
    return NEW


def basis_by_name(trace, **columns):
    """Of a recorded trace; `columns` are left out of its steps."""
    steps = trace.steps.drop(*columns["without"]) if columns else trace.steps
    analysis = analyze_steps(replace(trace, steps=steps), MODEL, MODEL, "all", None)
    return {name: value.basis for name, value in analysis.metrics.items()}


def test_what_is_measured_follows_from_what_the_trace_has():
    """Spelled out by name, so that a wrong `rests_on` of any record shows."""
    spread = {name for name, metric in METRICS.items() if metric.group == "spread"}
    some_hold_none = {f"{name}_max_over_min_p{share}" for name in ("kv_tokens", "running") for share in (90, 95)}
    loads = (spread - some_hold_none) | {"imbalance_tokens_mean", "balance_ratio_mean", "imbalance_ratio_mean"}
    loads |= {"processed_balance_ratio_mean", "slot_use", "steps"}
    times = {"tokens_per_second", "makespan_s"}
    found = basis_by_name(read_trace(str(SAMPLES / "skewed_8_ranks.jsonl")), without=["compute_ms"])
    of_steps = {
        name
        for name, metric in METRICS.items()
        if metric.of_steps and metric.only_without is None and metric.needs_size != "kv_capacity"
    } - some_hold_none
    of_steps -= {name for name in of_steps if name.startswith(("prefill_", "padding_"))}  # no rank prefills there
    assert of_steps <= set(found)
    assert {name for name in of_steps if found[name] == "measured"} == loads | times
    found = basis_by_name(read_trace(str(SAMPLES / "skewed_8_ranks.jsonl")), without=["compute_ms", "step_ms"])
    assert {name for name in of_steps if found[name] == "measured"} == loads
    found = basis_by_name(read_trace(str(SAMPLES / "two_ranks_three_steps.jsonl")))
    assert {name for name in of_steps & set(found) if found[name] == "modelled"} == {
        "kv_time_fraction",
        "sol_tokens_per_second",
    }


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (
            {"recorded": True, "rank_times": True, "step_times": True},
            ["measured", "measured", "measured", "modelled", "measured"],
        ),
        (
            {"recorded": True, "rank_times": False, "step_times": True, "sampled": True},
            ["sampled", "sampled", "modelled", "modelled", "measured"],
        ),
        ({"recorded": False, "rank_times": True, "step_times": True}, ["modelled"] * 5),
    ],
)
def test_the_weakest_input_gives_the_basis(known, expected):
    names = ("slot_use", "tokens_per_second", "barrier_idle_fraction", "kv_time_fraction", "tpot_ms_mean")
    assert [Bases.of(**known).basis(METRICS[name]) for name in names] == expected


def test_sampled_loads_give_sampled_figures():
    trace = read_trace(str(SAMPLES / "skewed_8_ranks.jsonl"))
    found = basis_by_name(replace(trace, meta=replace(trace.meta, resolution="sampled")))
    assert found["balance_ratio_mean"] == found["slot_use"] == "sampled"
    assert found["kv_time_fraction"] == "modelled"


def test_a_new_record_reaches_the_result_and_the_tables(new_metric, tmp_path, capsys):
    out = tmp_path / "a.json"
    sample = str(SAMPLES / "skewed_8_ranks.jsonl")
    assert run(["analyze", sample, "-o", str(out)]) == 0
    assert new_metric.label in capsys.readouterr().out
    (analysed,) = json.loads(out.read_text())["runs"]
    measure = analysed["metrics"][new_metric.name]
    tokens = read_trace(sample).step_arrays().kv_tokens
    assert measure == {"value": pytest.approx(tokens.mean()), "unit": "KV tokens", "basis": "measured"}

    options = ["--dp-size", "2", "--max-num-seqs", "16", "--policy", "jsq", "--policy", "fcfs"]
    reports = {suffix: tmp_path / f"b{suffix}" for suffix in (".md", ".csv", ".html")}
    targets = [part for path in reports.values() for part in ("-o", str(path))]
    assert run(["replay", sample, *options, *targets]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith(new_metric.label))
    assert " modelled " in row
    order = [line for line in lines if line.startswith(("balance ratio", new_metric.label, "throughput"))]
    assert order.index(row) == 1
    for path in reports.values():
        assert (new_metric.name if path.suffix == ".csv" else new_metric.label) in path.read_text()


def test_a_new_record_has_a_row_in_the_documents(new_metric):
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
    refresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refresh)
    assert f"| `{new_metric.name}` | KV tokens | neither | `{new_metric.formula}` |" in refresh.metric_table()


@pytest.mark.parametrize("place", PLACES)
def test_no_two_metrics_have_the_same_position_in_a_place(place):
    names = names_in(place)
    assert names
    assert len({METRICS[name].shown[place] for name in names}) == len(names)


def test_every_ratio_is_of_sums_that_a_run_stores():
    steps = StepArrays(np.arange(2), np.ones((2, 2)), np.ones((2, 2)))
    accounts = account(steps, MODEL, measured=False)
    view = EnergyView(power_presets()["h200"], 1)
    stored = set(columns_of(step_series(AccountFold.of(accounts, MODEL), view)))
    assert {column for metric in METRICS.values() for column in metric.ratio or ()} == stored


def test_the_bands_range_over_what_the_records_say(tmp_path):
    out = tmp_path / "a.json"
    options = ["--dp-size", "8", "--max-num-seqs", "16", "--policy", "jsq", "--policy", "round-robin", "--bands"]
    assert run(["replay", str(SAMPLES / "skewed_8_ranks.jsonl"), *options, "-o", str(out)]) == 0
    runs = json.loads(out.read_text())["runs"]
    ranged = {name for each in runs for name, value in each["metrics"].items() if "low" in value}
    assert ranged == {name for name, metric in METRICS.items() if metric.has_range}
    assert ranged == {
        "barrier_idle_fraction", "tokens_per_second", "tpot_ms_mean", "tpot_ms_p99", "perfect_balance_speedup",
        "kv_time_fraction", "energy_joules", "energy_joules_per_token", "energy_wait_fraction",
        "perfect_balance_energy_saving_fraction", "energy_saving_fraction",
    }  # fmt: skip


def test_a_range_never_excludes_its_value_and_measured_values_have_none():
    metrics = {
        "a": Measure(2.0, "s", "modelled"),
        "b": Measure(2.0, "s", "measured"),
        "c": Measure(2.0, "s", "modelled"),
    }
    found = add_ranges(metrics, {"a": (2.5, 3.0), "b": (1.0, 3.0), "c": (1.0, 1.0), "d": (0.0, 1.0)})
    assert (found["a"].low, found["a"].high) == (2.0, 3.0)
    assert [(found[name].low, found[name].high) for name in "bc"] == [(None, None)] * 2
    assert set(found) == set(metrics)
