"""Assembling the results of the commands."""
