"""Which metrics reports show, in which order."""

from __future__ import annotations

COMPARED = (
    "barrier_idle_fraction",
    "imbalance_tokens_mean",
    "balance_ratio_mean",
    "tokens_per_second",
    "tpot_ms_mean",
    "tpot_ms_p99",
    "queue_wait_ms_p99",
    "queue_wait_ms_max",
    "queue_wait_steps_max",
    "slot_use",
    "kv_time_fraction",
    "perfect_balance_speedup",
    "energy_joules",
    "energy_joules_per_token",
    "energy_wait_fraction",
    "energy_saving_fraction",
    "energy_saving_wait_share",
    "facility_joules_per_token",
    "carbon_g_per_1000_tokens",
    "electricity_money_per_day",
    "idle_electricity_money_per_day",
    "idle_money_per_day",
    "makespan_s",
    "steps",
    "requests_completed",
)
HEADROOM = (
    "unavoidable_idle_fraction",
    "avoidable_idle_fraction",
    "replaced_idle_fraction",
    "recovered_idle_fraction",
    "makespan_bound_fraction",
)
