"""Where results go: streams, files, progress, gates."""
