"""The policies that ship with lbal, one file each; the registry finds them by their `name`."""
