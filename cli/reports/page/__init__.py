"""The HTML page: what it shows, how it looks, and its charts."""
