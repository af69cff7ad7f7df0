"""What a log tells of KV use as a share becomes tokens, by the capacity that the log tells or that the options give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_logs import RENDERERS
from engine_logs.known_run import CAPACITY, KnownRun, made_up
from engine_logs.renderer import Renderer

from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.formats import ReadOptions, read_trace
from lbal.analyzers.trace.trace import Trace

WITHOUT_TOKENS = {
    "KV cache size": "KV cache space",
    "cache_config_info": "other_info",
    "num_used_tokens": "other_tokens",
    "kv_used_tokens": "other_kv_tokens",
    "max_total_num_tokens": "other_capacity",
}
"""What tells tokens, or how many fit, in logs that tell the share that is used too."""
OF_SHARES = {
    name: renderer
    for name, renderer in RENDERERS.items()
    if name in ("vllm iterations C", "vllm periodic", "trtllm KV use", "lmdeploy") or " scrapes, " in name
}
DEVICES = ("GPU", "NPU", "XPU")


def run() -> KnownRun:
    return made_up(60, 3, empty=False)


def read(renderer: Renderer, folder: Path, capacity: int | None, device: str = "GPU", *, told: bool = False) -> Trace:
    text = renderer.text(run()).replace("GPU KV cache usage", f"{device} KV cache usage")
    for name, other in WITHOUT_TOKENS.items():
        text = text if told else text.replace(name, other)
    path = folder / "server.log"
    path.write_text(text)
    return read_trace(path, options=replace(renderer.options, kv_capacity=capacity))


@pytest.mark.parametrize("name", OF_SHARES)
def test_shares_become_tokens_with_a_capacity_that_is_given(name: str, tmp_path: Path) -> None:
    renderer = OF_SHARES[name]
    known = renderer.told(run(), "kv_tokens")
    one_digit_ms = 0.0005 * CAPACITY + 1
    trace = read(renderer, tmp_path, CAPACITY)
    tokens = trace.step_arrays().kv_tokens
    assert (np.abs(tokens - known) <= one_digit_ms)[~np.isnan(known)].all()
    assert trace.meta.kv_capacity == CAPACITY
    assert not any("--kv-capacity" in warning for warning in trace.meta.warnings)
    halves = read(renderer, tmp_path, CAPACITY // 2).step_arrays().kv_tokens
    assert (np.abs(halves - tokens / 2) <= 1).all()


@pytest.mark.parametrize("name", OF_SHARES)
def test_without_a_capacity_tokens_are_unknown_and_shares_are_not(name: str, tmp_path: Path) -> None:
    trace = read(OF_SHARES[name], tmp_path, None)
    steps = trace.step_arrays()
    assert np.isnan(steps.kv_tokens).all()
    assert steps.kv_fraction is not None
    assert np.nanmax(np.abs(steps.kv_fraction - OF_SHARES[name].told(run(), "kv_tokens") / CAPACITY)) <= 0.0006
    assert any("--kv-capacity" in warning for warning in trace.meta.warnings)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["vllm iterations C", "vllm periodic"])
def test_the_share_of_any_device_is_read(name: str, device: str, tmp_path: Path) -> None:
    told, given = (
        read(RENDERERS[name], tmp_path, capacity, device, told=capacity is None) for capacity in (None, CAPACITY)
    )
    assert np.array_equal(told.step_arrays().kv_tokens, given.step_arrays().kv_tokens)


@pytest.mark.parametrize("name", ["sglang 0.5.23, every 40th", "dynamo", "trtllm KV tokens", "sglang loads, lines"])
def test_tokens_that_a_log_tells_stay_as_they_are_and_the_capacity_is_known(name: str, tmp_path: Path) -> None:
    renderer = RENDERERS[name]
    plain, given = (read(renderer, tmp_path, capacity, told=True) for capacity in (None, 2 * CAPACITY))
    assert np.array_equal(plain.step_arrays().kv_tokens, given.step_arrays().kv_tokens, equal_nan=True)
    assert given.meta.kv_capacity == 2 * CAPACITY


def test_options_refuse_a_capacity_that_cannot_be() -> None:
    with pytest.raises(UsageError, match="0 does not fit"):
        ReadOptions(kv_capacity=0)
