"""Words for what the library calls by a key."""

from __future__ import annotations

CAUSES_IN_WORDS = {
    "empty": "ranks without work",
    "count": "numbers of requests differ",
    "length": "lengths of requests differ",
    "prefill": "ranks prefill unevenly",
    "speed": "speeds of ranks differ",
    "unexplained": "not explained by load",
}
