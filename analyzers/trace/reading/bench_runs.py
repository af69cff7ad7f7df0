"""Results of load generators that keep the requests of a run as parallel lists: one JSON document a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import msgspec

from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, in_ms, json_values
from lbal.analyzers.trace.reading.request_table import FAILED
from lbal.analyzers.trace.source import Source


class Run(msgspec.Struct):
    """The parallel lists of a run; times in seconds of the client's own clock."""

    input_lens: list[int] | None = None
    output_lens: list[int] | None = None
    start_times: list[float] | None = None
    ttfts: list[float | None] | None = None
    latencies: list[float | None] | None = None
    errors: list[Any] | None = None


class BenchFormat(RecordFormat):
    """A load generator's results; several runs may follow one another in a file."""

    how_to_keep_requests: ClassVar[str]
    """The command that writes single requests beside the summary of a run."""

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of every run. Raises `InputError` for a run that has its summary alone."""
        for line, run in self.values(json_values(source), Run, source.name):
            if run.input_lens is None or run.output_lens is None:
                problem = "has the summary of a run and no single requests"
                expected = f"a result of {self.how_to_keep_requests}"
                self.bad.add(InputError(source.name, problem, line=line, field="input_lens", expected=expected))
                continue
            try:
                yield from [(None, record) for record in _requests_of(run, source.name, line)]
            except InputError as error:
                self.bad.add(error)


def _requests_of(run: Run, file: str, line: int | None) -> Iterator[RequestRecord]:
    """The requests of a run. Raises `InputError` where lists have different lengths."""
    inputs = run.input_lens or []
    count = len(inputs)
    columns: list[Sequence[Any]] = []
    for name in ("output_lens", "start_times", "ttfts", "latencies", "errors"):
        values = getattr(run, name)
        if values is not None and len(values) != count:
            problem = f"has {len(values)} elements"
            raise InputError(file, problem, line=line, field=name, expected=f"{count}, as many as input_lens")
        columns.append(values if values is not None else [None] * count)
    for prompt, output, start, ttft, latency, error in zip(inputs, *columns, strict=True):
        failed = bool(error) or not output
        yield RequestRecord(
            prompt_tokens=prompt,
            output_tokens=output,
            arrival=start,
            first_token_after_ms=in_ms(ttft) if ttft else None,
            finish_after_ms=in_ms(latency) if latency else None,
            left_out=FAILED if failed and not output else "failed (error)" if failed else None,
        )
