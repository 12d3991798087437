"""`turbospec bench gpu`: what control is worth on an accelerator, in parts that each take a few minutes."""

from turbospec.engines.bench.gpu.command import add_parser

__all__ = ["add_parser"]
