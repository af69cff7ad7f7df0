"""Options of the commands, and what they mean."""
