"""The outputs, one file each, found by the registry of reports."""
