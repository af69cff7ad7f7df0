"""Physics of the presets: no slope beats memory or arithmetic, every field has its dimension, times are of one kind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from lbal.analyzers.barrier.accounts import account
from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.barrier.totals import RunTotals
from lbal.analyzers.energy.power import PaperPower, TwoStatePower
from lbal.analyzers.models.power_models import power_presets
from lbal.analyzers.models.step_models import PAPER_RELEASE, presets, shipped, step_model
from lbal.analyzers.trace.trace import StepArrays

BANDWIDTH = {"a100": 2.039e12, "h100": 3.35e12, "h200": 4.8e12, "b200": 7.7e12, "gb200": 8e12}
"""Bytes per second of HBM, of one accelerator."""
KV_BYTES = {
    "llama3-8b": 2 * 32 * 8 * 128 * 2,
    "llama3-70b": 2 * 80 * 8 * 128 * 2,
    "qwen3-32b": 2 * 64 * 8 * 128 * 2,
    "qwen3-235b": 2 * 94 * 4 * 128 * 2,
    "deepseek-v3": 61 * 576 * 2,
}
"""KV bytes per token in bf16: 2 * layers * KV heads * head size * 2, or layers * latent size * 2."""
DENSE_FLOPS = {"a100": 312e12, "h100": 989e12, "h200": 989e12, "b200": 2.25e15, "gb200": 2.5e15}
"""bf16 operations per second at peak."""
LATENT_FLOP = 61 * 278_528
"""Operations of latent attention per token and layer with 128 heads on one rank, times layers."""
ROUNDING = 2e-3
"""The published coefficients have four digits."""


def bound_s(name: str) -> float:
    """Seconds per KV token that memory or arithmetic take at least on one rank."""
    gpu, model, layout, *kv = name.split("/")
    share = int(layout[2:]) if layout.startswith("tp") else 1
    eight_bit = kv == ["fp8kv"]
    memory = KV_BYTES[model] / BANDWIDTH[gpu] / share / (2 if eight_bit else 1)
    if model != "deepseek-v3":
        return memory
    return max(memory, LATENT_FLOP / DENSE_FLOPS[gpu] / (2 if eight_bit else 1))


@pytest.mark.parametrize("name", sorted(set(presets()) - {PAPER_RELEASE}))
def test_no_slope_beats_the_bound_of_memory_or_arithmetic(name):
    assert presets()[name]["a"] >= bound_s(name) * (1 - ROUNDING)
    assert presets()[name]["a_over_physics"] >= 1 - ROUNDING


def test_the_bounds_are_the_published_ones():
    assert KV_BYTES["llama3-70b"] == 327_680
    assert KV_BYTES["qwen3-235b"] == 192_512
    assert KV_BYTES["deepseek-v3"] == 70_272
    assert bound_s("h100/llama3-70b/tp1") == pytest.approx(97.8e-9, rel=1e-3)
    assert bound_s("h200/deepseek-v3/dp-attn+ep32/bf16kv") == pytest.approx(17.2e-9, rel=2e-3)
    assert bound_s("b200/deepseek-v3/dp-attn+ep8/bf16kv") == pytest.approx(9.1e-9, rel=5e-3)


# Dimensions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Quantity:
    """A number with a dimension: exponents of base units. Sums of different dimensions raise."""

    value: float
    dimension: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, value: float, **exponents: int) -> Quantity:
        return cls(value, tuple(sorted(exponents.items())))

    def __add__(self, other: Quantity) -> Quantity:
        if self.dimension != other.dimension:
            raise TypeError(f"{self.dimension} and {other.dimension} do not add")
        return Quantity(self.value + other.value, self.dimension)

    def __sub__(self, other: Quantity) -> Quantity:
        return self + Quantity(-other.value, other.dimension)

    def __mul__(self, other: Quantity) -> Quantity:
        exponents = dict(self.dimension)
        for name, exponent in other.dimension:
            exponents[name] = exponents.get(name, 0) + exponent
        kept = tuple(sorted((name, exponent) for name, exponent in exponents.items() if exponent))
        return Quantity(self.value * other.value, kept)

    def in_(self, unit: Quantity) -> float:
        if self.dimension != unit.dimension:
            raise TypeError(f"{self.dimension} cannot be told in {unit.dimension}")
        return self.value / unit.value


SECOND, JOULE = Quantity.of(1, s=1), Quantity.of(1, J=1)
MILLISECOND = Quantity.of(1e-3, s=1)
UNITS = {
    "s": {"s": 1},
    "s/token": {"s": 1, "token": -1},
    "s/request": {"s": 1, "request": -1},
    "s/pair": {"s": 1, "pair": -1},
    "ms": {"s": 1},
    "W": {"J": 1, "s": -1},
    "request": {"request": 1},
    "g/kWh": {"g": 1, "J": -1},
    "1": {},
}
STEP_FIELDS = {
    "C": ("s", 1e-3, 0.1),
    "a": ("s/token", 1e-9, 5e-7),
    "b_max": ("s/request", 1e-6, 9e-4),
    "b_engine": ("s/request", 1e-6, 9e-4),
    "b_mean": ("s/request", 1e-6, 9e-4),
    **{f"prefill.p.{level}": ("s/token", 2e-5, 5e-4) for level in ("low", "nominal", "high")},
    **{f"prefill.e.{level}": ("s/pair", 1e-9, 1e-7) for level in ("low", "nominal", "high")},
    "C_parts.att": ("s", 1e-3, 0.1),
    "C_parts.comm": ("s", 5e-4, 0.1),
    "C_parts.moe": ("s", 1e-3, 0.1),
    "C_parts.dense": ("s", 1e-3, 0.1),
    "step_ms_at_n64_s4096": ("ms", 5, 500),
    "kv_share_at_n64_s4096": ("1", 0, 1),
    "relerr_p95": ("1", 0, 1),
    "relerr_max": ("1", 0, 1),
    "relerr_att_max": ("1", 0, 1),
    "relerr_moe_max": ("1", 0, 1),
    "R2": ("1", 0, 1),
    "a_over_physics": ("1", 0.99, 3),
}
POWER_FIELDS = {
    **dict.fromkeys(("tdp", "tdp_assumed", "idle_deep", "idle_resident", "P_idle", "P_max"), ("W", 10, 2000)),
    **{f"{state}.{level}": ("W", 10, 2000) for state in ("wait", "busy") for level in ("low", "nominal", "high")},
    "n_half": ("request", 1, 1000),
    "mfu_sat": ("1", 0, 1),
    "gamma": ("1", 0, 1),
}
ENVIRONMENT_FIELDS = {
    **{f"pue.{level}": ("1", 1, 3) for level in ("low", "nominal", "high")},
    **{f"node_overhead_W_per_gpu.{level}": ("W", 0, 2000) for level in ("low", "nominal", "high")},
}


def numbers(record, prefix="") -> dict[str, float]:
    found = {}
    for key, value in record.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{key}.")
        elif isinstance(value, (int, float)):
            found[prefix + key] = value
    return found


@pytest.mark.parametrize("name", sorted(presets()))
def test_every_number_of_a_step_preset_has_a_dimension_and_its_size(name):
    for field, value in numbers(presets()[name]).items():
        unit, least, most = STEP_FIELDS[field]
        assert unit in UNITS
        assert least <= value <= most or value == 0, field
        if unit.startswith("s"):
            assert most < 1000 * least, "seconds taken for milliseconds would be out of range"


@pytest.mark.parametrize("name", sorted(shipped()["power"]))
def test_every_number_of_a_power_preset_has_a_dimension_and_its_size(name):
    for field, value in numbers(shipped()["power"][name]).items():
        unit, least, most = POWER_FIELDS[field]
        assert unit in UNITS
        assert least <= value <= most, field


def test_every_number_of_the_environment_has_a_dimension_and_its_size():
    for field, value in numbers(shipped()["environment"]).items():
        unit, least, most = ENVIRONMENT_FIELDS.get(field, ("g/kWh", 1, 1500))
        assert unit in UNITS
        assert field in ENVIRONMENT_FIELDS or field.startswith("carbon_g_per_kWh.")
        assert least <= value <= most, field


def test_quantities_of_different_dimensions_do_not_add():
    with pytest.raises(TypeError):
        _ = SECOND + JOULE
    with pytest.raises(TypeError):
        _ = SECOND * SECOND + SECOND
    assert (SECOND + MILLISECOND).in_(MILLISECOND) == pytest.approx(1001)


TOKENS, REQUESTS = np.array([[4096.0 * 60, 4096.0 * 20, 0.0]]), np.array([[60.0, 20.0, 0.0]])


def quantity(record, field, **more) -> Quantity:
    unit = {**STEP_FIELDS, **POWER_FIELDS}[field][0]
    return Quantity.of(record, **UNITS[unit])


@pytest.mark.parametrize("name", sorted(presets()))
def test_a_step_of_every_preset_is_a_time_and_the_one_that_lbal_computes(name):
    record = presets()[name]
    model = step_model(name, 72)
    tokens, requests = (
        [Quantity.of(value, **{unit: 1}) for value in loads[0]]
        for loads, unit in ((TOKENS, "token"), (REQUESTS, "request"))
    )
    c, a = quantity(record["C"], "C"), quantity(record["a"], "a")
    b = quantity(record.get("b_max", 0.0), "b_max") + quantity(record.get("b_engine", 0.0), "b_engine")
    ranks = [a * held + b * active for held, active in zip(tokens, requests, strict=True)]
    slowest = max(ranks, key=lambda each: each.value)
    mean = quantity(record.get("b_mean", 0.0), "b_mean") * Quantity.of(REQUESTS.mean(), request=1)
    expected = c + slowest + mean
    found = account(StepArrays(np.arange(1), TOKENS, REQUESTS), model, measured=False)
    assert found.step_ms[0] == pytest.approx(expected.in_(MILLISECOND), rel=1e-4)
    idle = (slowest - ranks[0]) + (slowest - ranks[1]) + (slowest - ranks[2])
    assert found.idle_ms[0] == pytest.approx(idle.in_(MILLISECOND), rel=1e-4)
    if "C_parts" in record:
        assert sum(record["C_parts"].values()) == pytest.approx(record["C"], rel=1e-3)
    if "step_ms_at_n64_s4096" in record:
        held, active = Quantity.of(64 * 4096, token=1), Quantity.of(64, request=1)
        told = c + a * held + b * active + quantity(record["b_mean"], "b_mean") * active
        assert told.in_(MILLISECOND) == pytest.approx(record["step_ms_at_n64_s4096"], rel=2e-3)
        assert (a * held).in_(SECOND) / told.in_(SECOND) == pytest.approx(record["kv_share_at_n64_s4096"], abs=2e-3)


@pytest.mark.parametrize("name", sorted(power_presets()))
def test_the_energy_of_every_preset_is_an_energy_and_the_one_that_lbal_computes(name):
    power = power_presets()[name]
    model = StepTimeModel("test", 0.01, 1e-8, 1e-4)
    accounts = account(StepArrays(np.arange(1), TOKENS, REQUESTS), model, measured=False, curves=power.curves)
    step = Quantity.of(accounts.step_ms[0] / 1e3, s=1)
    total = Quantity.of(0, J=1)
    rank_ms = model.rank_time_ms(TOKENS, REQUESTS)[0]
    for rank in range(3):
        wait = Quantity.of((rank_ms.max() - rank_ms[rank]) / 1e3, s=1)
        if isinstance(power, PaperPower):
            share = (TOKENS[0, rank] / TOKENS.max()) ** power.gamma
            watts = quantity(power.idle_w, "P_idle") + Quantity.of(share) * quantity(
                power.max_w - power.idle_w, "P_max"
            )
            total += watts * step
            continue
        assert isinstance(power, TwoStatePower)
        busy = quantity(power.busy.nominal, "busy.nominal")
        if power.n_half:
            n = REQUESTS[0, rank]
            busy = quantity(power.busy.low + (power.busy.high - power.busy.low) * n / (n + power.n_half), "busy.low")
        total += busy * (step - wait) + quantity(power.wait.nominal, "wait.nominal") * wait
    assert power.energy(RunTotals.of(accounts, model), 1).joules == pytest.approx(total.in_(JOULE))


@pytest.mark.parametrize("name", sorted(set(power_presets()) - {"paper"}))
def test_powers_are_in_order_and_within_the_limit(name):
    power = power_presets()[name]
    assert 0 < power.idle_w <= power.wait.low <= power.wait.nominal <= power.wait.high < power.busy.nominal
    assert power.busy.low <= power.busy.nominal <= power.busy.high <= power.tdp_w
    assert math.isfinite(power.n_half)
