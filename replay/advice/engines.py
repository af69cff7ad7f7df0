"""The engines that advice is given for, each with the settings that are tried, in the engine's own spelling.

A new setting is one record; a new engine is one more in `ENGINES`, named as its prefill rule.
"""

from __future__ import annotations

from lbal.replay.advice.setting import Engine, Setting


def _interval(steps: int) -> Setting:
    return Setting(f"interval {steps}", f"--prefill-schedule-interval {steps}", {"interval": steps})


def _decode_interval(steps: int) -> Setting:
    return Setting(f"decode-interval {steps}", f"--prefill-decode-interval {steps}", {"interval": steps})


def _router(method: str, policy: str) -> Setting:
    return Setting(policy, f"--load-balance-method {method}", policy=policy)


def _balance(timeout: int, batch: int) -> Setting:
    flags = f"attention_dp_config: {{enable_balance: true, timeout_iters: {timeout}, batching_wait_iters: {batch}}}"
    return Setting(f"balance {timeout}+{batch}", flags, {"balance": True, "timeout": timeout, "batch": batch})


VLLM = Engine(
    name="vllm",
    title="vLLM",
    policy="vllm",
    binding="immediate",
    slots_flag="--max-num-seqs SLOTS",
    settings=(_interval(1), _interval(2), _interval(4)),
)
SGLANG = Engine(
    name="sglang",
    title="SGLang",
    policy="round-robin",  # what `auto` is but on prefill servers
    binding="immediate",
    slots_flag="--max-running-requests ALL",  # the engine divides it by its ranks
    settings=(
        Setting("no delayer", "without --enable-prefill-delayer", {"delayer": False}),
        Setting("delayer", "--enable-prefill-delayer", {"delayer": True}),
        _decode_interval(0),
        _decode_interval(4),
        _decode_interval(8),
        _router("round_robin", "round-robin"),
        _router("total_requests", "sglang-total-requests"),
        _router("total_tokens", "sglang-total-tokens"),
    ),
)
TRTLLM = Engine(
    name="trtllm",
    title="TensorRT-LLM",
    policy="trtllm-adp",
    binding="pool",
    slots_flag="max_batch_size: SLOTS",
    settings=(
        Setting("no balance", "attention_dp_config: {enable_balance: false}", {"balance": False}),
        *(_balance(timeout, batch) for timeout in (10, 50) for batch in (0, 10)),
    ),
)
ENGINES = {engine.name: engine for engine in (VLLM, SGLANG, TRTLLM)}
