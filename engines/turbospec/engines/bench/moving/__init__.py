"""`turbospec bench moving`: control follows load that moves and requests that differ."""

from turbospec.engines.bench.moving.command import add_parser

__all__ = ["add_parser"]
