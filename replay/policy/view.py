"""What a policy may see of the cluster when it decides: live arrays, read-only by contract.

The engine checks every answer and alone changes state: a rule that writes to these arrays does not compile, and one in
plain Python gets views that NumPy refuses to write to.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbal.analyzers.trace.trace import FloatArray, IntArray

STEP, NOW_MS, SIGNALS_TAKEN = 0, 1, 2
"""Indices into `View.clock`."""


class View(NamedTuple):
    """The cluster as a policy sees it; G ranks, N requests.

    The signals may be older than the step where a policy declares a staleness; `dispatched` and
    `tokens_dispatched` then count what was sent to each rank since they were taken (0 otherwise).
    """

    dp_size: int
    """G."""
    max_num_seqs: int
    """Slots of a rank."""
    kv_capacity: float
    """KV tokens that fit on a rank; infinite without a limit."""
    drift: float
    """KV tokens by which the load of an active request grows per step."""
    attention_window: float
    """A request grows for `attention_window - prompt_tokens` steps; infinite without a window."""
    per_token_ms: float
    """a of the step model: what a KV token adds to the rank time."""
    per_request_ms: float
    """b of the step model: what an active request adds to the rank time, beside its KV tokens."""
    per_prefill_token_ms: float
    """p of the step model: what a prompt token that a rank computes adds to its rank time; 0 without prefill."""
    kv_tokens: FloatArray
    """(G,) signal: resident KV tokens; prompts that are still being computed count whole."""
    num_running: IntArray
    """(G,) signal: active requests, those whose prompts are still to be computed among them."""
    prompt_running: IntArray
    """(G,) signal: prompt tokens of the active requests, without what they generated."""
    num_waiting: IntArray
    """(G,) signal: requests in the rank's own queue (immediate binding; 0 otherwise)."""
    tokens_waiting: IntArray
    """(G,) signal: prompt tokens in the rank's own queue."""
    prefill_pending: IntArray
    """(G,) signal: prompt tokens of the requests sent to the rank that it has not computed; 0 without prefill."""
    dispatched: IntArray
    """(G,) requests sent to the rank since the signals were taken."""
    tokens_dispatched: IntArray
    """(G,) their prompt tokens."""
    inflight: IntArray
    """(G,) requests sent to the rank that have not ended: what a router knows by itself, never stale."""
    behind: IntArray
    """(G,) steps in which the rank's requests did not decode, since it computed prompts alone; 0 without prefill."""
    eligible: NDArray[np.bool_]
    """(G,) for `choose`: whether the rank can take the request at hand."""
    free_kv: FloatArray
    """(G,) KV tokens not reserved; infinite without a KV capacity."""
    prompt_tokens: IntArray
    """(N,) the load with which every request enters: its prompt, within the attention window if there is one."""
    reserved_tokens: IntArray
    """(N,) KV tokens that admitting a request reserves: its load at its largest; 0 without a KV capacity."""
    arrived_step: IntArray
    """(N,) the step before which a request joined the pool; -1 while it has not."""
    joined: IntArray
    """(N,) the requests that joined so far, in that order; what stands behind them means nothing."""
    active: IntArray
    """(S,) the request in each slot of the cluster, -1 where it is free; the ranks' slots in no order."""
    rank: IntArray
    """(N,) the rank of every request that was admitted, -1 otherwise."""
    admitted_step: IntArray
    """(N,) the step before which an admitted request got its slot: it has generated `step - behind[rank] -
    admitted_step` tokens. With prefill it is set when the prompt is computed; before, it is far above all steps."""
    output_tokens: IntArray
    """(N,) true output lengths; empty unless the policy declares that it uses them."""
    survivors: IntArray
    """(L,) of the requests that completed so far, those with more than t output tokens, at t; all 0 beyond the longest.

    Empty, as `tokens_completed`, unless the policy declares that it learns lengths.
    """
    tokens_completed: IntArray
    """(1,) output tokens of the requests that completed so far."""
    recorded_rank: IntArray
    """(N,) rank in the trace, -1 where unknown; empty unless the policy declares that it uses them."""
    draws: FloatArray
    """(N, 2) uniform numbers in [0, 1) of each request, from the seed; empty unless declared."""
    parameters: FloatArray
    """(P,) the policy's parameters as numbers, in the order of its fields."""
    memory: FloatArray
    """(M,) the policy's own memory between decisions: the one array that it may write."""
    clock: FloatArray
    """(3,) the step about to start, the time in ms, and how often the signals have been taken."""


def read_only(view: View) -> View:
    """The same arrays behind views that cannot be written, but for the policy's own memory."""
    return View(*(_locked(name, value) for name, value in zip(View._fields, view, strict=True)))


def _locked(name: str, value: Any) -> Any:
    if not isinstance(value, np.ndarray) or name == "memory":
        return value
    locked = value.view()
    locked.flags.writeable = False
    return locked
