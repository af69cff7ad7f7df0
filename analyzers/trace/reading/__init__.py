"""Tools that the readers of formats share."""
