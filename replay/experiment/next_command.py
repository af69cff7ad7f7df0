"""What to type after an analysis: the replay of the same requests, or which log would tell the requests."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import numpy as np

from lbal.analyzers.models.choice import ModelChoice
from lbal.analyzers.trace.step_blocks import blocks_of
from lbal.analyzers.trace.trace import Trace
from lbal.replay.experiment.request_logs import ANY_LOG, OWN_LINES, request_log
from lbal.replay.experiment.suited import RECORDED, suited_policies
from lbal.replay.scenario.workload import Workload

ROUTED = ("round-robin", "jsq")
"""What engines ship."""
BALANCING = ("bf-io", "waterline")
"""What balances tokens, to see what that wins."""
NO_BARRIER_HERE = (
    " A replay models ranks that wait for one another, which these do not: of its figures those of load are theirs, "
    "and none of idle, time or energy."
)
REQUEST_FILE, RANKS, SLOTS = "REQUESTS", "RANKS", "SLOTS"
"""Stand for a file that is not there yet, and for sizes that the log does not tell; of one rank nothing is routed."""


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
    slots = max_num_seqs or trace.meta.max_num_seqs
    beside = "" if trace.meta.no_barrier is None else NO_BARRIER_HERE
    if trace.requests is None or trace.requests.is_empty():
        where = _which_log(trace, slots)
        return {"advice": f"Other policies can be replayed on requests, which are not in here: {where}{beside}"}
    assert trace.meta.dp_size is not None
    command = replay_command(trace, read_with, models, trace.meta.dp_size, slots or most_running(trace))
    return {"command": command, **({"advice": beside.strip()} if beside else {})}


def most_running(trace: Trace) -> int:
    """The largest number of running requests of a rank: as many slots as it has at least; 1 if none is known."""
    return max([1, *(int(np.nan_to_num(block.num_running).max()) for block in blocks_of(trace))])


def _which_log(trace: Trace, slots: int | None) -> str:
    log = request_log(trace.meta)
    if trace.meta.format in ("native", "parquet") and log is ANY_LOG:
        return f"{OWN_LINES}."
    policies = [*([RECORDED] if log.has_ranks else []), *ROUTED, *BALANCING]
    ranks = trace.meta.dp_size if trace.meta.dp_size != 1 else RANKS
    words = ["lbal", "replay", REQUEST_FILE, "--dp-size", str(ranks), "--max-num-seqs", str(slots or SLOTS)]
    words += [word for policy in policies for word in ("--policy", policy)]
    return f"{log.where}. Then: {' '.join(words)}"
