"""How a replay runs: the loop, its compilation, and what it hands back."""
