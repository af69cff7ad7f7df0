"""Package data: published step-time and power figures."""
