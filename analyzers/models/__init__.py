"""Models by name: presets of step time and power, costs, and files of one's own."""
