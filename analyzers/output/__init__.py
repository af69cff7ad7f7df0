"""Writing files: whole or not at all, and over nothing that nobody asked to overwrite."""
