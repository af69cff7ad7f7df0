"""Step-time models by name: the measured presets that ship with lbal, the released one, and inline coefficients."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from typing import Any

from lbal.analyzers.errors import UsageError, unknown_name
from lbal.analyzers.steptime import StepTimeModel

DEFAULT_STEP_MODEL = "h200/deepseek-v3/dp-attn+ep32/bf16kv"
PAPER_RELEASE = "paper-release"
INLINE_FIELDS = ("C", "a", "b", "b_mean")
LONGEST_S = 1e4


@cache
def presets() -> dict[str, dict[str, Any]]:
    """The records of the shipped presets as published, by name; coefficients in seconds."""
    text = files("lbal.replay.data").joinpath("models.json").read_text(encoding="utf-8")
    records: dict[str, dict[str, Any]] = json.loads(text)["step"]
    return records


def step_model(spec: str, max_num_seqs: int) -> StepTimeModel:
    """The model that a `--step-model` value names: a preset, or `C=…,a=…,b=…,b_mean=…` in seconds.

    `max_num_seqs` matters to `paper-release` alone, whose C depends on it. Raises `UsageError`.
    """
    if "=" in spec:
        return _inline(spec)
    if spec == PAPER_RELEASE:
        return paper_release(max_num_seqs)
    if spec not in presets():
        raise unknown_name("step model", spec, presets())
    return _preset(spec, presets()[spec])


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
    return StepTimeModel(
        name=name,
        shared_s=record["C"],
        per_token_s=record["a"],
        per_request_s=record.get("b_max", 0.0) + record.get("b_engine", 0.0),
        per_mean_request_s=record.get("b_mean", 0.0),
        source=record.get("note", ""),
        confidence=record.get("confidence", ""),
    )


def _inline(spec: str) -> StepTimeModel:
    values = dict.fromkeys(INLINE_FIELDS, 0.0)
    given: set[str] = set()
    for part in spec.split(","):
        key, _, text = part.partition("=")
        key = key.strip()
        if key not in values:
            raise UsageError(
                f"--step-model {spec!r}: {key!r}: unknown coefficient, expected {', '.join(INLINE_FIELDS)}"
            )
        if key in given:
            raise UsageError(f"--step-model {spec!r}: {key}: stands twice, expected each coefficient once")
        given.add(key)
        try:
            values[key] = float(text)
        except ValueError:
            values[key] = math.nan
        if not 0 <= values[key] <= LONGEST_S:
            raise UsageError(f"--step-model {spec!r}: {key}: {text!r} is no time, expected 0 to {LONGEST_S:g} seconds")
    if values["a"] + values["b"] <= 0:
        raise UsageError(f"--step-model {spec!r}: no rank would ever wait for another, expected a or b above 0")
    return StepTimeModel(
        name=spec,
        shared_s=values["C"],
        per_token_s=values["a"],
        per_request_s=values["b"],
        per_mean_request_s=values["b_mean"],
        source="given on the command line",
        confidence="the user's own",
    )
