"""From a trace and a setting to figures, and how far modelled ones are from measured ones."""
