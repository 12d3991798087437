"""`turbospec bench e2e`: what control is worth, against every fixed length and against no speculation."""

from turbospec.engines.bench.e2e.command import add_parser

__all__ = ["add_parser"]
