"""SGLang's own barrier metrics (`SGLANG_ENABLE_METRICS_DP_ATTENTION=1`): what they say, under their names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from lbal.analyzers.trace.reading.histogram import Counted, Histogram, bound_of, pooled
from lbal.analyzers.trace.reading.prometheus import Sample

PREFIX = "dp_attention_"
_KIND = re.compile(r"(tokens|pairs|steps)_total|(token_imbalance_ratio|sync_wait_seconds)_(bucket|sum|count)")
SHARES = (0.5, 0.9, 0.99)
RANKS_SHOWN = 16
NAMED = {
    "tokens": "new tokens that a rank had fewer than the busiest one, of those of the busiest one",
    "pairs": "pairs of attention that a rank had fewer than the busiest one, of those of the busiest one",
}


class BarrierMetrics:
    """Collects the series of all scrapes."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[int | None, dict[str, Counted]]] = {}
        self._histograms: dict[str, dict[int | None, Histogram]] = {}
        self._several = False
        self._seen: set[tuple[Any, ...]] = set()
        self._first_ms: float | None = None
        self._last_ms: float | None = None

    def begin_scrape(self, time_ms: float | None) -> None:
        """The next samples are of another scrape."""
        self._several = bool(self._seen) or self._several
        self._seen = set()
        self._first_ms = time_ms if self._first_ms is None else self._first_ms
        self._last_ms = time_ms

    def see(self, kind: str, sample: Sample, rank: int | None) -> None:
        """A sample whose name is `sglang:dp_attention_KIND`. Copies of a series by other ranks do not count twice."""
        found = _KIND.fullmatch(kind)
        if found is None or not math.isfinite(sample.value):
            return
        part = sample.labels.get("kind") or sample.labels.get("rank_state") or sample.labels.get("le") or ""
        if (kind, rank, part) in self._seen:
            return
        self._seen.add((kind, rank, part))
        if found[1]:
            self._counters.setdefault(found[1], {}).setdefault(rank, {}).setdefault(part, Counted()).see(sample.value)
            return
        histogram = self._histograms.setdefault(found[2], {}).setdefault(rank, Histogram())
        if found[3] != "bucket":
            getattr(histogram, found[3]).see(sample.value)
        elif (bound := _bound(part)) is not None:
            histogram.buckets.setdefault(bound, Counted()).see(sample.value)

    def record(self) -> dict[str, Any]:
        """The figures by name, for the metadata of the trace; empty without any."""
        found: dict[str, Any] = {}
        for kind, text in NAMED.items():
            ranks = self._counters.get(kind, {})
            scheduled, short = (self._sum(ranks, part) for part in ("scheduled", "imbalance"))
            if scheduled is not None and short is not None and scheduled + short > 0:
                found[f"dp_attention_{kind}_total"] = {"share": short / (scheduled + short), "means": text}
        if idle := self._idle_steps():
            found["dp_attention_steps_total"] = {"idle_share": idle, "means": "passes without work of a rank"}
        for kind, histograms in self._histograms.items():
            if figures := self._distribution(kind, list(histograms.values())):
                found[PREFIX + kind] = figures
        return found

    def notes(self) -> Iterator[str]:
        """The figures in words, a note for each name."""
        since = "between the first scrape and the last" if self._several else "since the start of the server"
        for name, figures in self.record().items():
            yield f"SGLang's own sglang:{name}, {since}: {_WORDS[name.removeprefix(PREFIX)](figures)}"

    def _sum(self, ranks: dict[int | None, dict[str, Counted]], part: str) -> float | None:
        """Over the ranks that have both kinds."""
        parts = [each for each in ranks.values() if {"scheduled", "imbalance"} <= each.keys()]
        return sum(each[part].grown(several=self._several) for each in parts) if parts else None

    def _idle_steps(self) -> dict[str, float]:
        shares = {}
        for rank, parts in self._counters.get("steps", {}).items():
            if {"busy", "idle"} <= parts.keys():
                busy, idle = (parts[name].grown(several=self._several) for name in ("busy", "idle"))
                if busy + idle > 0:
                    shares[str(rank or 0)] = idle / (busy + idle)
        return dict(sorted(shares.items(), key=lambda item: int(item[0])))

    def _distribution(self, kind: str, histograms: list[Histogram]) -> dict[str, float]:
        known = [each for each in histograms if each.sum.first is not None and each.count.first is not None]
        if not known:
            return {}
        total, number, buckets = pooled(known, several=self._several)
        if number <= 0:
            return {}
        figures = {"mean": total / number, "count": number}
        figures |= {f"p{share * 100:.0f}_at_most": bound_of(share, number, buckets) for share in SHARES}
        if kind == "sync_wait_seconds" and self._several and self._first_ms is not None and self._last_ms is not None:
            span_s = (self._last_ms - self._first_ms) / 1e3 * len(known)
            figures |= {"share_of_rank_time": total / span_s} if span_s > 0 else {}
        return {name: value for name, value in figures.items() if not math.isnan(value)}


def _bound(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _shares_in_words(figures: dict[str, Any]) -> str:
    return f"{figures['share']:.1%} is imbalance ({figures['means']})"


def _idle_in_words(figures: dict[str, Any]) -> str:
    shares = list(figures["idle_share"].items())
    listing = ", ".join(f"rank {rank} {share:.1%}" for rank, share in shares[:RANKS_SHOWN])
    return f"passes without work: {listing}{', …' if len(shares) > RANKS_SHOWN else ''}"


def _percentiles(figures: dict[str, Any], scale: float, unit: str) -> str:
    parts = [
        f"{name.removesuffix('_at_most')} at most {value * scale:.4g}{unit}"
        for name, value in figures.items()
        if name.endswith("_at_most")
    ]
    return "".join(f", {part}" for part in parts)


def _ratio_in_words(figures: dict[str, Any]) -> str:
    return (
        f"max/mean of new tokens over ranks is {figures['mean']:.3f} on average over {figures['count']:,.0f} passes"
        f"{_percentiles(figures, 1.0, '')}"
    )


def _wait_in_words(figures: dict[str, Any]) -> str:
    share = figures.get("share_of_rank_time")
    text = (
        f"the exchange before a pass, in which ranks wait for the slowest, takes {figures['mean'] * 1e3:.4g} ms on "
        f"average{_percentiles(figures, 1e3, ' ms')}"
    )
    return text if share is None else f"{text}; {share:.1%} of rank-time"


_WORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "tokens_total": _shares_in_words,
    "pairs_total": _shares_in_words,
    "steps_total": _idle_in_words,
    "token_imbalance_ratio": _ratio_in_words,
    "sync_wait_seconds": _wait_in_words,
}
