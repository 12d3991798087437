"""Why an engine cannot be profiled, in a sentence for its operator."""

from __future__ import annotations


class ProfilingError(Exception):
    """The engine cannot be profiled, or not further; the message says why."""


class OptionError(ProfilingError):
    """An option asks for what the engine does not have; the message names the option and the limit."""
