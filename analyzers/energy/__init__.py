"""Energy of a run, and how far figures move within what is known of the models."""
