"""The prefill rules of engines, one file each."""
