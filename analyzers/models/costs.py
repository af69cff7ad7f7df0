"""The opt-in figures of `--costs`: facility, carbon and money, each from a number that the user names."""

from __future__ import annotations

import math
from typing import Any

from lbal.analyzers.energy.power import Costs
from lbal.analyzers.errors import UsageError, unknown_name
from lbal.analyzers.models.step_models import shipped

LEVELS = ("low", "nominal", "high")
KEYS = {
    "pue": ("pue", 1.0, 10.0),
    "node": ("node_watts", 0.0, 1e5),
    "carbon": ("carbon_g_per_kwh", 0.0, 1e4),
    "electricity": ("price_per_kwh", 0.0, 1e6),
    "gpu-hour": ("price_per_gpu_hour", 0.0, 1e6),
}
"""Key -> field of `Costs`, least and largest value."""


def parse_costs(text: str) -> Costs:
    """The costs that `--costs KEY=VALUE,…` names. Raises `UsageError`.

    `pue` and `node` (watts per accelerator) may be low, nominal or high, `carbon` a country or world: the values
    shipped with lbal, from EcoLogits, the Uptime Institute and CodeCarbon. Prices are numbers in any currency.
    """
    values: dict[str, float] = {}
    labels: dict[str, str] = {}
    for part in (part.strip() for part in text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key not in KEYS:
            if equals:
                raise unknown_name("cost", key, KEYS)
            raise UsageError(f"{part!r} is no KEY=VALUE, expected such as pue=1.2 or carbon=world", parameter="costs")
        field, least, most = KEYS[key]
        if field in values:
            raise UsageError(f"{key} stands twice, expected each key once", parameter="costs")
        values[field] = _value(key, value, least, most)
        labels[key] = f"{key} {values[field]:g}" + (f" ({value})" if value in _named(key) else "")
    return Costs(**values, labels=labels)


def _value(key: str, text: str, least: float, most: float) -> float:
    named = _named(key)
    if text in named:
        return named[text]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        names = f", or {', '.join(named)}" if named else ""
        raise UsageError(
            f"{key}={text}: cannot be, expected a number from {least:g} to {most:g}{names}", parameter="costs"
        )
    return value


def _named(key: str) -> dict[str, float]:
    records: dict[str, Any] = shipped()["environment"]
    if key in ("pue", "node"):
        record = records["pue" if key == "pue" else "node_overhead_W_per_gpu"]
        return {level: float(record[level]) for level in LEVELS}
    if key == "carbon":
        return {name: float(value) for name, value in records["carbon_g_per_kWh"].items() if name != "src"}
    return {}
