"""`turbospec bench hotpath`: what control costs in the scheduler's thread, in a step, and in the sidecar."""

from turbospec.engines.bench.hotpath.command import add_parser

__all__ = ["add_parser"]
