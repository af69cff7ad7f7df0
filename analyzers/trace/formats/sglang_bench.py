"""What SGLang's `bench_serving --output-details` appends: one JSON document a run, without arrival times."""

from __future__ import annotations

from lbal.analyzers.trace.reading.bench_runs import BenchFormat
from lbal.analyzers.trace.reading.jsonlines import document_keys
from lbal.analyzers.trace.source import Source


class SglangBenchFormat(BenchFormat):
    """JSON Lines with parallel lists `input_lens`, `output_lens`, `errors`; no times of arrival, no ranks."""

    name = "sglang-bench"
    time_unit = "none"
    how_to_keep_requests = "bench_serving --output-details"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head has the keys of a run of SGLang's benchmark."""
        keys = document_keys(source)
        return {"backend", "sharegpt_output_len", "random_input_len"} <= keys and "start_times" not in keys

    def notes(self) -> tuple[str, ...]:
        """That there are no arrivals."""
        return ("bench_serving does not record when requests were sent: only a backlog can be replayed",)
