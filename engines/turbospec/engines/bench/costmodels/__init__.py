"""`turbospec bench cost-models`: which form of cost model describes measured step times, and how well."""

from turbospec.engines.bench.costmodels.command import add_parser

__all__ = ["add_parser"]
