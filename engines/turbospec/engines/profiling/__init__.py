"""Profiling a live engine: designed load on its endpoint, lengths by its sidecar, times from its steps."""
