"""The metrics file of SGLang (`--export-metrics-to-file`): one JSON line a request, with its DP rank."""

from __future__ import annotations

from collections.abc import Iterator

from lbal.analyzers.trace.formats.sglang_requests import MetaInfo, record_of
from lbal.analyzers.trace.reading.jsonlines import head_keys
from lbal.analyzers.trace.reading.request_records import RecordFormat, RequestRecord, json_values
from lbal.analyzers.trace.source import Source


class SglangRequestMetricsFormat(RecordFormat):
    """JSON Lines of `request_parameters` beside the fields of `meta_info`; arrivals are `request_received_ts` (s)."""

    name = "sglang-request-metrics"
    time_unit = "s"
    has_pieces = True

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the first line has the parameters and the token counts of a request."""
        return {"request_parameters", "prompt_tokens", "completion_tokens"} <= head_keys(source)

    def records(self, source: Source) -> Iterator[tuple[int | None, RequestRecord]]:
        """Every request of the file."""
        for line, info in self.values(json_values(source), MetaInfo, source.name):
            yield line, record_of(info, info.request_received_ts)
