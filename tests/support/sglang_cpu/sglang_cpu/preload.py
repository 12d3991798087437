"""Imports what SGLang's scheduler imports at its start, the classes of all models included."""

import sglang.srt.managers.scheduler  # noqa: F401
from sglang.srt.models.registry import ModelRegistry

ModelRegistry.get_supported_archs()
