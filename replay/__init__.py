"""What would have happened: the same requests under other routing policies."""
