"""Comparing results: pairs of runs, differences, intervals, gates."""
