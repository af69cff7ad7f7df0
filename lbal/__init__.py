"""Load-balance analyzer for data-parallel LLM decoding."""
