"""Files that people take for request traces and that lack what a replay needs: each is refused by its own name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.source import Source


@dataclass(frozen=True)
class NotATrace:
    """A kind of file: all of its patterns stand in its head."""

    what: str
    expected: str
    patterns: tuple[re.Pattern[bytes], ...]


def _kind(what: str, expected: str, *patterns: bytes) -> NotATrace:
    return NotATrace(what, expected, tuple(re.compile(pattern) for pattern in patterns))


KINDS = (
    _kind(
        "is a profile export of GenAI-Perf: it has no token counts",
        "AIPerf's profile_export.jsonl, which has them",
        rb'^\s*\{\s*"(?:service_kind|endpoint|experiments)"',
        rb'"experiments"',
        rb'"response_timestamps"',
    ),
    _kind(
        "has sessions of chained calls (sub_requests): each call waits for the one before it, which is not replayed",
        "one line per request with an arrival time",
        rb'"sub_requests"\s*:',
    ),
    _kind(
        "is a Weka agent session: its requests wait for one another, which is not replayed",
        "one line per request with an arrival time",
        rb'"hash_id_scope"\s*:',
        rb'"requests"\s*:',
    ),
    _kind(
        "has the rates of a ServeGen client, no requests",
        "the requests that ServeGen generates from it",
        rb"(?m)^\s*\d+,[\d.]+,[\d.]+,(?:Weibull|Gamma|Exponential|Poisson)?,[\d.]+,[\d.]+\s*$",
    ),
    _kind(
        "has spans without token counts",
        "spans with gen_ai.usage.prompt_tokens, as vLLM exports them",
        rb'"spans"\s*:',
        rb'"span_id"\s*:',
    ),
    _kind(
        "is the header of a BLIS trace",
        "the CSV file beside it",
        rb"^\s*trace_version\s*:",
    ),
)


def refuse_what_is_no_trace(source: Source) -> None:
    """Raise `InputError` for a file of a known kind that is no trace; return for all others."""
    head = source.head
    for kind in KINDS:
        if all(pattern.search(head) for pattern in kind.patterns):
            raise InputError(source.name, kind.what, expected=kind.expected)
