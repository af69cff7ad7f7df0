"""What `vllm bench serve --save-result --save-detailed` writes: one JSON document a run."""

from __future__ import annotations

from lbal.analyzers.trace.reading.bench_runs import BenchFormat
from lbal.analyzers.trace.reading.jsonlines import document_keys
from lbal.analyzers.trace.source import Source


class VllmBenchFormat(BenchFormat):
    """JSON with parallel lists `input_lens`, `output_lens`, `start_times`, `ttfts`, `latencies` (s), `errors`.

    Several runs in a file (`--append-result`) follow one another on the client's clock. There are no ranks.
    """

    name = "vllm-bench"
    time_unit = "s"
    how_to_keep_requests = "vllm bench serve --save-result --save-detailed"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head has the lists of lengths, or the summary of a run of vLLM."""
        keys = document_keys(source)
        lists = "input_lens" in keys and "start_times" in keys
        return lists or {"backend", "request_throughput", "tokenizer_id", "num_prompts"} <= keys
