"""Figures of requests: what they ask for, and how long they took."""
