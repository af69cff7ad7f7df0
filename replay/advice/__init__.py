"""Which of an engine's own settings suits the requests of a trace: a short list per engine, replayed and judged."""
