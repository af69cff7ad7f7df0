"""What to type after an analysis: the replay of the same requests, or which log would tell the requests."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np

from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.trace.trace import Trace
from lbal.replay.experiment.suited import RECORDED, suited_policies
from lbal.replay.scenario.workload import Workload

ROUTED = ("round-robin", "jsq")
"""What engines ship."""
BALANCING = ("bf-io", "waterline")
"""What balances tokens, to see what that wins."""
REQUEST_LOGS = {
    "sglang": "SGLang's request log (--log-requests --log-requests-format json) or its metrics file "
    "(--export-metrics-to-file) has them, with the rank of each from 0.5.10 on",
    "dynamo": "Dynamo's request trace (DYN_REQUEST_TRACE=1) has them, with their ranks",
    "vllm": "vLLM's spans (--otlp-traces-endpoint) have them, or `vllm bench serve --save-result --save-detailed`, "
    "both without ranks",
}
"""What holds the arrival and the lengths of each request, by the engine that runs."""
ANY_REQUESTS = "the file of a load generator (AIPerf, GuideLLM, vllm bench serve) has them, or a table with --columns"
REQUEST_LINES = 'lines with "request_id", "arrival_ms", "prompt_tokens", "output_tokens" and "rank" would tell them'


def suggested_policies(trace: Trace, dp_size: int) -> list[str]:
    """What was recorded, if it can be replayed, what engines ship, and what balances."""
    found, _notes = suited_policies(Workload.of(trace), dp_size, None)
    return [RECORDED, *ROUTED, *BALANCING] if RECORDED in found else [*ROUTED, *BALANCING]


def replay_command(
    trace: Trace,
    read_with: Sequence[str],
    models: ModelChoice,
    dp_size: int,
    max_num_seqs: int,
    options: Sequence[str] = (),
) -> str:
    """The command that replays the requests of a trace; `read_with` are the words that read it."""
    words = ["lbal", "replay", *read_with, "--dp-size", str(dp_size), "--max-num-seqs", str(max_num_seqs)]
    words += [word for policy in suggested_policies(trace, dp_size) for word in ("--policy", policy)]
    return shlex.join([*words, *models.arguments(), *options])


def after_steps(
    trace: Trace, read_with: Sequence[str], models: ModelChoice, max_num_seqs: int | None
) -> dict[str, str]:
    """What comes next after the steps of a trace: `command`, or `advice` where it has no requests."""
    if trace.requests is None or trace.requests.is_empty():
        return {"advice": _which_log(trace)}
    assert trace.meta.dp_size is not None
    slots = max_num_seqs or trace.meta.max_num_seqs or most_running(trace)
    return {"command": replay_command(trace, read_with, models, trace.meta.dp_size, slots)}


def most_running(trace: Trace) -> int:
    """The largest number of running requests of a rank: as many slots as it has at least; 1 if none is known."""
    running = trace.step_arrays().num_running
    return max(1, int(np.nanmax(running))) if np.isfinite(running).any() else 1


def _which_log(trace: Trace) -> str:
    engine = (trace.meta.engine or "").lower()
    source = next((text for name, text in REQUEST_LOGS.items() if engine.startswith(name)), None)
    if source is None:
        source = REQUEST_LINES if trace.meta.format in ("native", "parquet") else ANY_REQUESTS
    return f"Other policies can be replayed on requests, which are not in here: {source}."
