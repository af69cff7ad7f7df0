"""How the load of a request grows while it is decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lbal.analyzers.errors import UsageError
from lbal.analyzers.trace.trace import MAX_TOKENS, IntArray

MOST_PER_STEP = 1e6
EXPECTED = "a number of at least 0, or window:W with W of at least 1"
"""What `--drift` takes; numbers above a million are typing mistakes."""


@dataclass(frozen=True)
class Drift:
    """Load of a request with s prompt tokens after t steps: min(s, window) + per_step * min(t, max(window - s, 0)).

    LLM decoding is 1 per step; linear attention and BSP jobs are 0; speculative decoding is above 1; sliding-window
    attention is 1 up to a window of W tokens (arXiv 2601.17855 asks for no more than a common, bounded drift).
    """

    per_step: float = 1.0
    window: float = math.inf

    def entering_load(self, prompt_tokens: IntArray) -> IntArray:
        """(N,) load in the first step."""
        if self.window == math.inf:
            return prompt_tokens.astype(np.int64)
        return np.asarray(np.minimum(prompt_tokens, self.window), np.int64)

    def growing_steps(self, prompt_tokens: IntArray, output_tokens: IntArray) -> IntArray:
        """(N,) steps after which the load no longer grows: all of them without a window."""
        if self.window == math.inf:
            return output_tokens.astype(np.int64)
        return np.asarray(np.minimum(output_tokens, np.maximum(self.window - prompt_tokens, 0)), np.int64)

    def largest_load(self, prompt_tokens: IntArray, output_tokens: IntArray) -> IntArray:
        """(N,) load after the last step, rounded up: what an admission reserves."""
        growing = self.growing_steps(prompt_tokens, output_tokens)
        if self.per_step == 1:
            return self.entering_load(prompt_tokens) + growing
        growth = self.per_step * growing
        return np.asarray(self.entering_load(prompt_tokens) + np.ceil(growth), np.int64)

    def __str__(self) -> str:
        return f"{self.per_step:g}" if self.window == math.inf else f"window:{self.window:g}"


def parse_drift(text: str) -> Drift:
    """The drift that `--drift` names. Raises `UsageError`."""
    head, colon, rest = text.partition(":")
    try:
        if colon and head == "window":
            window = int(rest)
            if 1 <= window <= MAX_TOKENS:
                return Drift(window=float(window))
        elif 0 <= (per_step := float(text)) <= MOST_PER_STEP:
            return Drift(per_step)
    except ValueError:
        pass
    raise UsageError(f"{text!r} is no growth of load, expected {EXPECTED}", parameter="drift")
