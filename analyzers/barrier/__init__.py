"""Steps under the barrier: the time of a step, the accounts, the figures, the bounds."""
