"""Power models by name: the presets that ship with lbal, the released formula, and the user's own files."""

from __future__ import annotations

from typing import Any

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.analyzers.energy.power import PaperPower, Power, TwoStatePower, Watts
from lbal.analyzers.errors import UsageError, unknown_name
from lbal.analyzers.models.model_files import ModelFile, is_file
from lbal.analyzers.models.step_models import PAPER_RELEASE, shipped

PAPER = "paper"
FALLBACK_POWER = "h200"
"""For step-time models that name no accelerator: that of the default step-time model."""
MOST_WATTS = 10_000.0


def power_presets() -> dict[str, Power]:
    """The shipped power models by name; watts per accelerator.

    `paper-v1`, the formula in the paper's text, is left out: it needs FLOPs, which no trace has.
    """
    records: dict[str, dict[str, Any]] = shipped()["power"]
    found: dict[str, Power] = {name: _preset(name, record) for name, record in records.items() if "busy" in record}
    released = records["paper-release"]
    return {**found, PAPER: PaperPower(idle_w=released["P_idle"], max_w=released["P_max"], gamma=released["gamma"])}


def power_model(spec: str | None, step_model: StepTimeModel) -> tuple[Power, str]:
    """The model that a `--power-model` value names, a preset or a JSON file, and why it was taken if it was assumed.

    Without a value it is that of the accelerator of the step-time model. Raises `UsageError` and `InputError`.
    """
    presets = power_presets()
    if spec is None:
        own = PAPER if step_model.name == PAPER_RELEASE else step_model.gpu
        if own in presets:
            return presets[own], ""
        return presets[FALLBACK_POWER], "the step model names no accelerator"
    if spec in presets:
        return presets[spec], ""
    if is_file(spec):
        return power_from_file(spec), ""
    raise unknown_name("power model", spec, presets)


def power_from_file(name: str) -> TwoStatePower:
    """A power model of the user's own. Raises `InputError`.

    `busy` and `wait` are watts per accelerator, a number or {"low", "nominal", "high"}; `idle`, `n_half`, `tdp`,
    `name` and `source` may be there.
    """
    file = ModelFile.read(name)
    file.refuse_unknown({"name", "busy", "wait", "idle", "n_half", "tdp", "source", "confidence"}, "power model")
    busy, wait = (Watts(*file.levels(key, above=0.0, most=MOST_WATTS)) for key in ("busy", "wait"))
    idle = file.number("idle", default=wait.low, least=0.0, most=MOST_WATTS)
    return TwoStatePower(
        name=file.text("name", name),
        busy=busy,
        wait=wait,
        idle_w=min(idle, wait.low),
        n_half=file.number("n_half", default=0.0, least=0.0, most=1e9),
        tdp_w=file.number("tdp", default=0.0, least=0.0, most=MOST_WATTS) or None,
        confidence=file.text("confidence", "the user's own"),
        source=file.text("source", name),
    )


def checked_gpu(name: str) -> str:
    """The name, if a power model has it or it is empty. Raises `UsageError`."""
    if name and name not in power_presets():
        raise unknown_name("power model", name, power_presets())
    return name


def gpus_per_rank(value: int | None, step_model: StepTimeModel) -> int:
    """Accelerators per rank: as given, else those of the step-time model. Raises `UsageError`."""
    if value is None:
        return step_model.gpus_per_rank
    if not 1 <= value <= 1024:
        raise UsageError(f"{value} cannot be, expected 1 to 1024", parameter="gpus_per_rank")
    return value


def _preset(name: str, record: dict[str, Any]) -> TwoStatePower:
    busy, wait = (Watts(**record[key]) for key in ("busy", "wait"))
    idle = [record[key] for key in ("idle_deep", "idle_resident") if key in record]
    tdp = record.get("tdp") or record.get("tdp_assumed")
    return TwoStatePower(
        name=name,
        busy=busy,
        wait=wait,
        idle_w=min([*idle, wait.low]),
        n_half=float(record.get("n_half") or 0.0),
        tdp_w=float(tdp) if tdp else None,
        confidence=record["confidence"],
        source="; ".join(f"{what}: {source}" for what, source in record["src"].items()),
    )
