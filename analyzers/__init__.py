"""What happened: traces, their formats, and the accounting of barrier idle."""
