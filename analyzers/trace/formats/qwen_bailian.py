"""Request traces of Qwen-Bailian (Alibaba, 2025), whose keys are Mooncake's and whose times are seconds."""

from __future__ import annotations

from lbal.analyzers.trace.formats.mooncake import MooncakeFormat
from lbal.analyzers.trace.reading.jsonlines import head_keys
from lbal.analyzers.trace.source import Source


class QwenBailianFormat(MooncakeFormat):
    """JSON Lines of `chat_id`, `parent_chat_id`, `turn`, `timestamp` (s), `input_length`, `output_length`."""

    name = "qwen-bailian"
    time_unit = "s"

    @classmethod
    def matches(cls, source: Source) -> bool:
        """Whether the first line has the keys of a turn of a chat."""
        return {"chat_id", "parent_chat_id", "turn", "timestamp"} <= head_keys(source)
