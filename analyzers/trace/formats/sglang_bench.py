"""What SGLang's `bench_serving --output-details` appends: one JSON document a run, without arrival times."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.formats.vllm_bench import Run, requests_of
from lbal.analyzers.trace.reading.jsonlines import document_keys
from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, decoded, json_values
from lbal.analyzers.trace.source import Source


class SglangBenchFormat(RecordFormat):
    """JSON Lines with parallel lists `input_lens`, `output_lens`, `errors`; no times of arrival, no ranks."""

    name = "sglang-bench"
    time_unit = "none"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the head has the keys of a run of SGLang's benchmark."""
        keys = document_keys(source)
        return {"backend", "sharegpt_output_len", "random_input_len"} <= keys and "start_times" not in keys

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of every run."""
        decoder = msgspec.json.Decoder(Run)
        for line, text in json_values(source):
            run = decoded(decoder, text, source.name, line)
            if run.input_lens is None or run.output_lens is None:
                raise InputError(
                    source.name,
                    "has the summary of a run and no single requests",
                    line=line,
                    field="input_lens",
                    expected="a result of bench_serving --output-details",
                )
            yield from ((None, record._replace(finish_after_ms=None)) for record in requests_of(run, source.name, line))

    def notes(self) -> tuple[str, ...]:
        """That there are no arrivals."""
        return ("bench_serving does not record when requests were sent: only a backlog can be replayed",)
