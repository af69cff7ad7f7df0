"""Sentences and numbers for people: a result carries its own, so that a notebook and every report say the same."""
