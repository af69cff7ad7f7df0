"""Which log tells the requests, by engine, with its switches as the engine spells them."""

from __future__ import annotations

from typing import NamedTuple

from lbal.analyzers.trace.trace import TraceMeta


class RequestLog(NamedTuple):
    """What holds the arrival and the lengths of each request."""

    where: str
    has_ranks: bool
    """Whether it tells the rank of each, so that the recorded placement can be replayed."""


BEHIND_DYNAMO = "with ranks behind Dynamo (DYN_REQUEST_TRACE=1)"
REQUEST_LOGS = {
    "sglang": RequestLog(
        "SGLang's request log (--log-requests --log-requests-format json --log-requests-level 0 --log-requests-target "
        "DIR) or its metrics file (--export-metrics-to-file --export-metrics-to-file-dir DIR) has them, with the rank "
        "of each from 0.5.10 on",
        has_ranks=True,
    ),
    "dynamo": RequestLog("Dynamo's request trace (DYN_REQUEST_TRACE=1) has them, with their ranks", has_ranks=True),
    "vllm": RequestLog(
        "vLLM's spans (--otlp-traces-endpoint URL) have them, or `vllm bench serve --save-result --save-detailed`, "
        f"both without ranks; {BEHIND_DYNAMO}",
        has_ranks=False,
    ),
    "tensorrt-llm": RequestLog(
        "TensorRT-LLM logs none; the file of the load generator has them (AIPerf's profile_export.jsonl, GuideLLM's "
        f"JSON), without ranks; {BEHIND_DYNAMO}",
        has_ranks=False,
    ),
}
"""By the engine that runs, as names of engines begin."""
ANY_LOG = RequestLog(
    "the file of a load generator (AIPerf, GuideLLM, vllm bench serve) has them, or a table with --columns",
    has_ranks=False,
)
OWN_LINES = 'lines with "request_id", "arrival_ms", "prompt_tokens", "output_tokens" and "rank" would tell them'
"""Of a trace in a format of lbal's own."""


def request_log(meta: TraceMeta) -> RequestLog:
    """The log of requests that the engine of a trace can write."""
    engine = (meta.engine or "").lower()
    return next((log for name, log in REQUEST_LOGS.items() if engine.startswith(name)), ANY_LOG)
