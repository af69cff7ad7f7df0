"""What step-time models know of prefill: presets, the command line, files, and the refusal of those that know nothing."""

from __future__ import annotations

import json

import pytest

from lbal.analyzers.barrier.step_time import PREFILL_COEFFICIENTS
from lbal.analyzers.errors import InputError, UsageError
from lbal.analyzers.models.step_models import (
    DEFAULT_STEP_MODEL,
    named_step_model,
    preset_records,
    refuse_without_prefill,
    step_model,
)


def test_the_default_preset_takes_what_its_source_says():
    """8 GPUs compute 52,300 prompt tokens a second where prompts have 2,000: half of them stand before a token."""
    model = step_model(DEFAULT_STEP_MODEL, 64)
    per_token_s = model.per_prefill_token_s + model.per_prefill_pair_s * 2_000 / 2
    assert per_token_s == pytest.approx(8 / 52_300, rel=0.02)
    assert {band.coefficient for band in model.bands} == {"C", "a", "b", "p", "e"}


def test_presets_without_a_published_figure_do_not_tell_prefill_and_the_others_name_their_source():
    told = {record["name"]: record.get("prefill_source") for record in preset_records() if record.get("p")}
    assert len(told) == 18
    assert all(told.values())
    assert not step_model("b200/deepseek-v3/dp-attn+ep8/bf16kv", 64).tells_prefill
    assert not step_model("h100/llama3-8b/tp1", 64).tells_prefill


def test_a_model_that_does_not_tell_prefill_is_refused_where_that_is_needed():
    refuse_without_prefill(step_model(DEFAULT_STEP_MODEL, 64))
    refuse_without_prefill(step_model("C=0.01,a=1e-8,p=1e-4", 64))
    with pytest.raises(
        UsageError, match=r"h100/llama3-8b/tp1 does not say what prefill takes, expected a model with p"
    ):
        refuse_without_prefill(step_model("h100/llama3-8b/tp1", 64))


def test_a_model_for_decode_alone_has_no_coefficient_of_prefill_and_no_band_of_one():
    model = step_model(DEFAULT_STEP_MODEL, 64).without_prefill()
    assert not model.tells_prefill
    assert not model.as_dict().keys() & set(PREFILL_COEFFICIENTS)
    assert {band.coefficient for band in model.bands} == {"C", "a", "b"}
    assert model.coefficients_s[:4] == step_model(DEFAULT_STEP_MODEL, 64).coefficients_s[:4]


def test_all_coefficients_can_be_given_in_a_line_and_in_a_file(tmp_path):
    inline = step_model("C=0.01,a=1e-8,b=1e-4,b_mean=0,p=1e-4,e=1e-8,C_x=0.002", 64)
    assert inline.coefficients_s == (0.01, 1e-8, 1e-4, 0.0, 1e-4, 1e-8, 0.002)
    record = {"C": 0.01, "a": 1e-8, "p": 1e-4, "e": 1e-8, "C_x": 0.002, "bands": {"e": {"low": 0, "high": 2e-8}}}
    file = tmp_path / "model.json"
    file.write_text(json.dumps(record))
    model, _notes = named_step_model(str(file), 64)
    assert model.coefficients_s == (0.01, 1e-8, 0.0, 0.0, 1e-4, 1e-8, 0.002)
    file.write_text(json.dumps({**record, "bands": {"C_x": {"low": 0.003, "high": 0.004}}}))
    with pytest.raises(InputError, match=r"bands.C_x: 0.003 to 0.004 does not hold C_x, 0.002"):
        named_step_model(str(file), 64)
