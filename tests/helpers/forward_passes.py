"""Lines of a log with one record per rank and forward pass, for tests of what holds for the logs of all engines."""

from __future__ import annotations

import json

NOTHING = {"num_prefill_requests": 0, "sum_prefill_tokens": 0, "num_decode_requests": 0, "sum_decode_kv_tokens": 0}


def record(rank: int, step: int, running: int = 2, kv_tokens: int = 64, wall_s: float = 0.01) -> str:
    """One line of Dynamo's forward-pass metrics."""
    scheduled = {**NOTHING, "num_decode_requests": running, "sum_decode_kv_tokens": kv_tokens}
    metrics = {"dp_rank": rank, "counter_id": step, "wall_time": wall_s}
    line = {"metrics": {**metrics, "scheduled_requests": scheduled, "queued_requests": NOTHING}}
    return json.dumps(line) + "\n"
