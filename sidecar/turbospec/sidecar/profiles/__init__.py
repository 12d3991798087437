"""Latency profiles: what steps of an engine were measured to take, kept over restarts.

A profile holds measured cells rather than a model's coefficients, so that it outlives changes of the model.
Only the standard library is needed: the command line reads a directory where nothing else is installed.
"""
