"""`turbospec bench cold-start`: what starting without a profile costs, and how soon it is made up for."""

from turbospec.engines.bench.coldstart.command import add_parser

__all__ = ["add_parser"]
