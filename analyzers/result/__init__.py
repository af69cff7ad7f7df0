"""The result that every command makes, and reading it back."""
