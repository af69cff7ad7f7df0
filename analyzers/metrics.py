"""The table of metrics: one place for names, units, directions and formulas.

The command line, the documentation and the gates read it. Sums run over the steps of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Basis = Literal["measured", "modelled"]
Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Metric:
    """What a metric is."""

    name: str
    unit: str
    better: Better
    label: str
    """For people, in tables."""
    formula: str


@dataclass(frozen=True)
class Measure:
    """A value of a metric: `basis` says whether it was read from the trace or rests on a model."""

    value: float
    unit: str
    basis: Basis
    low: float | None = None
    high: float | None = None
    fidelity: float | None = None
    """How far the same modelled figure of the recorded placement was from the measured one: 0.02 is 2% more."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `low`, `high` and `fidelity` only where they are known."""
        record = {
            "value": self.value,
            "unit": self.unit,
            "basis": self.basis,
            "low": self.low,
            "high": self.high,
            "fidelity": self.fidelity,
        }
        return {key: value for key, value in record.items() if value is not None}


def _over_steps(name: str, label: str, what: str) -> list[Metric]:
    return [
        Metric(
            f"{name}_p{share}", "fraction", "lower", f"{label} p{share} over steps", f"p{share} over steps of {what}"
        )
        for share in (50, 90, 99)
    ]


def _distribution(name: str, unit: str, label: str, what: str, parts: tuple[str, ...]) -> list[Metric]:
    return [
        Metric(f"{name}_{part}", unit, "lower", f"{label} {part}", f"{part} over requests of {what}") for part in parts
    ]


_ALL = [
    Metric(
        "barrier_idle_fraction",
        "fraction",
        "lower",
        "barrier idle",
        "sum over steps and ranks of (max rank time - rank time) / (G * sum of step times)",
    ),
    *_over_steps("barrier_idle_fraction", "barrier idle", "idle / (G * step time)"),
    Metric(
        "barrier_idle_rank_seconds",
        "rank-seconds",
        "lower",
        "barrier idle in total",
        "sum over steps and ranks of (max rank time - rank time)",
    ),
    Metric("imbalance_tokens_mean", "KV tokens", "lower", "imbalance, mean", "mean over steps of G*max(L) - sum(L)"),
    Metric("balance_ratio_mean", "ratio", "higher", "balance ratio, mean", "mean over steps of mean(L)/max(L)"),
    Metric("imbalance_ratio_mean", "ratio", "lower", "imbalance ratio, mean", "mean over steps of max(L)/mean(L)"),
    Metric("tokens_per_second", "tokens/s", "higher", "throughput", "sum of running requests / sum of step times"),
    *_distribution(
        "tpot_ms",
        "ms/token",
        "TPOT",
        "(finish - admission) / output tokens",
        ("mean", "p50", "p95", "p99"),
    ),
    *_distribution("ttft_ms", "ms", "TTFT", "first token - arrival", ("mean", "p50", "p95", "p99")),
    *_distribution("queue_wait_ms", "ms", "queue wait", "admission - arrival", ("p50", "p99", "max")),
    *_distribution("queue_wait_steps", "steps", "queue wait", "steps between arrival and admission", ("p99", "max")),
    Metric("slot_use", "fraction", "higher", "slot use", "mean over steps of running requests / (G * max_num_seqs)"),
    Metric("makespan_s", "s", "lower", "makespan", "end of the last step - start of the first"),
    Metric("steps", "steps", "neither", "steps", "decode steps in the window"),
    Metric("requests_completed", "requests", "neither", "requests completed", "requests that got all their tokens"),
    Metric(
        "perfect_balance_speedup",
        "ratio",
        "neither",
        "speed-up with perfect balance",
        "sum of step times / sum of step times with every rank at the mean rank time",
    ),
    Metric(
        "perfect_balance_throughput_fraction",
        "fraction",
        "higher",
        "share of perfect-balance throughput",
        "throughput / throughput with every rank at the mean rank time, same admissions",
    ),
    Metric(
        "kv_time_fraction",
        "fraction",
        "neither",
        "step time that is KV",
        "sum of a * KV tokens of the straggler / sum of step times",
    ),
    Metric(
        "energy_joules",
        "J",
        "lower",
        "energy",
        "k * sum over steps and ranks of (busy power(n) * (step time - idle) + wait power * idle)",
    ),
    Metric(
        "energy_joules_per_token", "J/token", "lower", "energy per token", "energy_joules / tokens of the same steps"
    ),
    Metric(
        "energy_joules_per_token_wait_idle",
        "J/token",
        "lower",
        "the same if waiting drew idle power",
        "energy_joules_per_token with the power of an idle accelerator as wait power",
    ),
    Metric(
        "energy_joules_per_token_wait_busy",
        "J/token",
        "lower",
        "the same if waiting drew busy power",
        "energy_joules_per_token with busy power(n) as wait power",
    ),
    Metric(
        "energy_wait_fraction",
        "fraction",
        "lower",
        "energy spent waiting",
        "k * sum over steps and ranks of wait power * idle / energy_joules",
    ),
    Metric(
        "perfect_balance_energy_saving_fraction",
        "fraction",
        "neither",
        "energy saved by perfect balance",
        "1 - energy with every rank at the mean rank time / energy_joules, same admissions",
    ),
    Metric(
        "energy_saving_fraction",
        "fraction",
        "higher",
        "energy saved",
        "1 - energy_joules_per_token / energy_joules_per_token of the reference",
    ),
    Metric(
        "energy_saving_wait_share",
        "fraction",
        "neither",
        "of the saving, on wait power",
        "(wait energy per token of the reference - wait energy per token) "
        "/ (energy per token of the reference - energy per token)",
    ),
    Metric(
        "facility_joules_per_token",
        "J/token",
        "lower",
        "facility energy per token",
        "PUE * (energy_joules + G * k * node overhead * sum of step times) / tokens",
    ),
    Metric(
        "carbon_g_per_1000_tokens",
        "g",
        "lower",
        "carbon per 1000 tokens",
        "grid carbon per kWh * facility energy / tokens * 1000",
    ),
    Metric(
        "electricity_money_per_day",
        "money/day",
        "lower",
        "electricity",
        "price per kWh * facility energy per day of such steps",
    ),
    Metric(
        "idle_electricity_money_per_day",
        "money/day",
        "lower",
        "electricity spent waiting",
        "price per kWh * PUE * (wait energy + barrier idle * node overhead) per day of such steps",
    ),
    Metric(
        "idle_money_per_day",
        "money/day",
        "lower",
        "accelerators that wait",
        "price per GPU-hour * 24 * G * k * barrier_idle_fraction",
    ),
    Metric(
        "unavoidable_idle_fraction",
        "fraction",
        "neither",
        "unavoidable idle, at least",
        "sum over steps of (G * max(sum(r) / min(G, n), largest r, ceil(n/G) * smallest r) - sum(r)) "
        "/ (G * sum of step times), r = rank time of one active request, n of them",
    ),
    Metric(
        "avoidable_idle_fraction",
        "fraction",
        "lower",
        "avoidable idle, at most",
        "barrier_idle_fraction - unavoidable_idle_fraction",
    ),
    Metric(
        "replaced_idle_fraction",
        "fraction",
        "neither",
        "idle, placed anew",
        "barrier_idle_fraction with the same admissions placed by the solver, which knows the lengths",
    ),
    Metric(
        "recovered_idle_fraction",
        "fraction",
        "higher",
        "avoidable idle recovered",
        "(barrier idle of the reference - barrier idle) / avoidable idle of the reference",
    ),
    Metric(
        "makespan_bound_s",
        "s",
        "neither",
        "makespan of any policy, at least",
        "max over i of arrival_i - arrival_0 + C * max(ceil(sum(o) / (G*B)), max(o)) "
        "+ max((a*W + b*sum(o)) / G, largest a*w + b*o) + b_mean * sum(o) / G, over the requests from i on, "
        "w = token-steps of one request, W = sum(w)",
    ),
    Metric(
        "makespan_bound_fraction",
        "fraction",
        "higher",
        "makespan bound over makespan",
        "makespan_bound_s / (end of the last step of the whole run - first arrival)",
    ),
    Metric(
        "tokens_per_second_bound",
        "tokens/s",
        "neither",
        "throughput of any policy, at most",
        "sum(o) / makespan_bound_s without arrivals, of the whole run",
    ),
]
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def measure(name: str, value: float, basis: Basis, low: float | None = None, high: float | None = None) -> Measure:
    """A value of a metric of the table, with its range where that is known."""
    return Measure(float(value), METRICS[name].unit, basis, low, high)
