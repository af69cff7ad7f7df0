"""Fitting a step-time model to a trace."""
