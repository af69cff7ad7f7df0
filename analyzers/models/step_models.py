"""Step-time models by name: the measured presets that ship with lbal, the released one, and the user's own.

A model of the user's own is a file, coefficients on the command line, or a trace to calibrate on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from lbal.analyzers.barrier.step_time import (
    COEFFICIENTS,
    LEAST_SPEED,
    MOST_SPEED,
    PREFILL_COEFFICIENTS,
    Band,
    StepTimeModel,
)
from lbal.analyzers.errors import Parameter, UsageError, shown, unknown_name
from lbal.analyzers.models.model_files import ModelFile, is_file, is_json_file

DEFAULT_STEP_MODEL = "h200/deepseek-v3/dp-attn+ep32/bf16kv"
PAPER_RELEASE = "paper-release"
INLINE_FIELDS = tuple(COEFFICIENTS)
BANDED = ("C", "a", "b", "p", "e", "C_x")
"""Coefficients that may have a band."""
LONGEST_S = 1e4
BAND_FACTORS = {"C": (0.85, 1.25), "a": (0.95, 1.3)}
"""Low and high of measured presets over their nominal value: what end-to-end measurements allow (docs/models.md)."""
ENGINE_S = (5e-6, 9e-5)
"""Cost per request of the engine (sampling, scheduling), low and high, where a preset has one."""
QUALITY = ("R2", "relerr_p95", "relerr_max", "relerr_att_max", "relerr_moe_max", "a_over_physics")
"""What the published presets tell of their fits."""
SOURCES = {
    "kernels": "Kernel tables of aiconfigurator, whole step as one fit; ",
    "kernels-dp": "Kernel tables of aiconfigurator, attention and experts fitted apart, error of the worse; ",
    "released": "",
}
FILE_MARK = "lbal_step_model"
FILE_FIELDS = {
    FILE_MARK, "name", *COEFFICIENTS, "unit", "bands", "rank_speed", "gpu", "gpus_per_rank", "source", "confidence",
    "calibration",
}  # fmt: skip


@cache
def shipped() -> dict[str, Any]:
    """The shipped models as published: `step` in seconds, `power` in watts, `environment`."""
    text = files("lbal.analyzers.models.data").joinpath("models.json").read_text(encoding="utf-8")
    records: dict[str, Any] = json.loads(text)
    return records


def presets() -> dict[str, dict[str, Any]]:
    """The records of the shipped step-time presets as published, by name; coefficients in seconds."""
    records: dict[str, dict[str, Any]] = shipped()["step"]
    return records


def step_model(spec: str, max_num_seqs: int) -> StepTimeModel:
    """The model that a `--step-model` value names; see `named_step_model`, whose notes are dropped."""
    return named_step_model(spec, max_num_seqs)[0]


def named_step_model(spec: str, max_num_seqs: int) -> tuple[StepTimeModel, list[str]]:
    """The model that a `--step-model` value names, and what there is to say of it.

    A preset; `C=…,a=…,…` in seconds, by the names of `COEFFICIENTS`; a model file (.json); or a trace with measured
    steps, to calibrate on.
    `max_num_seqs` matters to `paper-release` alone, whose C depends on it. Raises `UsageError` and `InputError`.
    """
    if spec in presets():
        return (paper_release(max_num_seqs) if spec == PAPER_RELEASE else _preset(spec, presets()[spec])), []
    if is_json_file(spec):
        return step_model_from_file(spec), []
    if is_file(spec):
        return _calibrated(spec)
    if "=" in spec:
        return _inline(spec), []
    raise unknown_name("step model", spec, presets())


def refuse_without_prefill(model: StepTimeModel) -> None:
    """Raise `UsageError` for a model that does not say what prefill takes: no replay of prefill can take it."""
    if model.tells_prefill:
        return
    knowing = [name for name, record in presets().items() if "prefill" in record]
    others = f"{DEFAULT_STEP_MODEL} or one of {len(knowing) - 1} others of `lbal list step-models`"
    raise UsageError(
        f"{model.name} does not say what prefill takes, expected a model with p: {others}, a file with p, or "
        "C=…,a=…,b=…,p=… in seconds",
        parameter="step_model",
    )


def preset_records() -> list[dict[str, Any]]:
    """The shipped presets for a listing: coefficients in seconds, `error` of the fit, `kind` of source, confidence.

    The C of `paper-release` depends on the slots; it is that of the published 72.
    """
    found = []
    for name, record in presets().items():
        if name == PAPER_RELEASE:
            kind, error = "released", "not fitted"
        elif "relerr_p95" in record:
            kind, error = "kernels", f"p95 {record['relerr_p95']:.1%}"
        else:
            kind, error = "kernels-dp", f"max {max(record['relerr_att_max'], record['relerr_moe_max']):.1%}"
        model = step_model(name, 72)
        quality = {key: record[key] for key in QUALITY if key in record}
        if "prefill" in record:
            quality["prefill_source"] = f"{record['prefill']['src']}; {record['prefill']['confidence']}"
        found.append(
            {**model.as_dict(), "error": error, "kind": kind, **quality, "source": SOURCES[kind] + record["note"]}
        )
    return found


def _calibrated(name: str) -> tuple[StepTimeModel, list[str]]:
    from lbal.analyzers.calibration.calibration import calibrate
    from lbal.analyzers.trace.formats import read_trace

    found = calibrate(read_trace(name))
    quality = f"{name}: {found.quality} (see `lbal calibrate {name}`)"
    return found.model, [
        quality,
        *[f"{name}: {warning}" for warning in found.warnings],
    ]


def step_model_from_file(name: str) -> StepTimeModel:
    """A step-time model of the user's own, as `lbal calibrate -o` writes it. Raises `InputError`.

    Coefficients in seconds (those of `COEFFICIENTS`); `bands` with low and high of some of them; `rank_speed`.
    """
    file = ModelFile.read(name)
    file.refuse_unknown(FILE_FIELDS, "step-time model")
    if file.text("unit", "seconds") != "seconds":
        raise file.fail("unit", f"{shown(file.record['unit'])} is not known", "seconds")
    values = {
        key: file.number(key, default=None if key in ("C", "a") else 0.0, least=0.0, most=LONGEST_S)
        for key in COEFFICIENTS
    }
    if values["a"] + values["b"] <= 0:
        raise file.fail("a", "no rank would ever wait for another", "a or b above 0")
    model = StepTimeModel(
        name=file.text("name", name),
        shared_s=0.0,
        per_token_s=0.0,
        source=file.text("source", name),
        confidence=file.text("confidence", "the user's own"),
        bands=_file_bands(file, values),
        gpu=file.text("gpu", ""),
        gpus_per_rank=int(file.number("gpus_per_rank", default=1, least=1, most=1024)),
    )
    return model.with_coefficients(**values).with_speeds(_file_speeds(file))


def _file_bands(file: ModelFile, values: dict[str, float]) -> tuple[Band, ...]:
    bands = []
    for key, band in _object(file, "bands").items():
        field = f"bands.{key}"
        if key not in BANDED:
            raise file.fail(field, "is no coefficient with a band", ", ".join(BANDED))
        if not isinstance(band, dict) or set(band) != {"low", "high"}:
            raise file.fail(field, f"{shown(band)} is no band", "an object with low and high")
        low, high = (file.checked(band[end], f"{field}.{end}", 0.0, LONGEST_S) for end in ("low", "high"))
        if not low <= values[key] <= high:
            raise file.fail(field, f"{low:g} to {high:g} does not hold {key}, {values[key]:g}", "low <= value <= high")
        bands.append(Band(key, low, high))
    return tuple(bands)


def _file_speeds(file: ModelFile) -> dict[int, float]:
    speeds = {}
    for key, value in _object(file, "rank_speed").items():
        if not key.isdigit():
            raise file.fail("rank_speed", f"{shown(key)} is no rank", "ranks from 0")
        speeds[int(key)] = file.checked(value, f"rank_speed.{key}", LEAST_SPEED, MOST_SPEED)
    return speeds


def _object(file: ModelFile, field: str) -> dict[str, Any]:
    value = file.record.get(field, {})
    if not isinstance(value, dict):
        raise file.fail(field, f"{shown(value)} is no object", "a JSON object")
    return value


def rank_speeds(specs: Sequence[str]) -> dict[int, float]:
    """The speeds that `--rank-speed` values name: `RANK=SPEED`, several with commas. Raises `UsageError`."""
    speeds: dict[int, float] = {}
    for part in (part.strip() for spec in specs for part in spec.split(",")):
        key, _, text = part.partition("=")
        try:
            rank, speed = int(key), float(text)
        except ValueError:
            raise UsageError(f"{part!r} is no RANK=SPEED, expected such as 3=0.8", parameter="rank_speed") from None
        if rank < 0 or not LEAST_SPEED <= speed <= MOST_SPEED:
            raise UsageError(
                f"{part!r} cannot be, expected a rank from 0 and a speed from {LEAST_SPEED:g} to "
                f"{MOST_SPEED:g} (1 is the speed of the model)",
                parameter="rank_speed",
            )
        if rank in speeds:
            raise UsageError(f"rank {rank} stands twice, expected each rank once", parameter="rank_speed")
        speeds[rank] = speed
    return speeds


def paper_release(max_num_seqs: int) -> StepTimeModel:
    """The constants of the released simulator of arXiv 2601.17855: C = (0.6e-3*B + 35e-3)/16 s and a
    fixed slope of 1.5*2*576*61e-6/2**20 s per token; no term in the number of requests.
    """
    return StepTimeModel(
        name=PAPER_RELEASE,
        shared_s=(0.6e-3 * max_num_seqs + 35e-3) / 16,
        per_token_s=1.5 * 2 * 576 * 61e-6 / 2**20,
        source="released simulator of arXiv 2601.17855; C depends on max_num_seqs",
        confidence="exact copy of its constants, not a measurement",
    )


def _preset(name: str, record: dict[str, Any]) -> StepTimeModel:
    per_request_s = record.get("b_max", 0.0) + record.get("b_engine", 0.0)
    engine = [record["b_max"] + cost for cost in ENGINE_S] if "b_engine" in record else None
    parallel, prefill = name.rsplit("/tp", 1), record.get("prefill", {})
    told = [key for key in PREFILL_COEFFICIENTS if key in prefill]
    model = StepTimeModel(
        name=name,
        shared_s=record["C"],
        per_token_s=record["a"],
        per_request_s=per_request_s,
        bands=(
            *[Band(key, record[key] * low, record[key] * high) for key, (low, high) in BAND_FACTORS.items()],
            # Presets without an engine term are sums of kernels: what an engine adds per request is missing there.
            Band("b", *(engine or (per_request_s, per_request_s + ENGINE_S[1]))),
            *[Band(key, prefill[key]["low"], prefill[key]["high"]) for key in told],
        ),
        gpu=name.partition("/")[0],
        gpus_per_rank=int(parallel[1]) if len(parallel) == 2 else 1,
        per_mean_request_s=record.get("b_mean", 0.0),
        source=record.get("note", ""),
        confidence=record.get("confidence", ""),
    )
    return model.with_coefficients(**{key: prefill[key]["nominal"] for key in told})


def _inline(spec: str) -> StepTimeModel:
    values = dict.fromkeys(INLINE_FIELDS, 0.0)
    given: set[str] = set()
    for part in spec.split(","):
        key, _, text = part.partition("=")
        key = key.strip()
        if key not in values:
            raise UsageError(
                f"{key!r}: unknown coefficient, expected {', '.join(INLINE_FIELDS)}",
                parameter=Parameter("step_model", repr(spec)),
            )
        if key in given:
            raise UsageError(
                f"{key}: stands twice, expected each coefficient once", parameter=Parameter("step_model", repr(spec))
            )
        given.add(key)
        try:
            values[key] = float(text)
        except ValueError:
            values[key] = math.nan
        if not 0 <= values[key] <= LONGEST_S:
            raise UsageError(
                f"{key}: {text!r} is no time, expected 0 to {LONGEST_S:g} seconds",
                parameter=Parameter("step_model", repr(spec)),
            )
    if values["a"] + values["b"] <= 0:
        raise UsageError(
            "no rank would ever wait for another, expected a or b above 0",
            parameter=Parameter("step_model", repr(spec)),
        )
    model = StepTimeModel(spec, 0.0, 0.0, source="given on the command line", confidence="the user's own")
    return model.with_coefficients(**values)
