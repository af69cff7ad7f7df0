"""Traces: the tables, where they are read from, the formats, and writing them."""
