"""Imported by vLLM's workers on a stage: loads `instant_models`, and changes how often a pair agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from turbospec.engines.instant_models import LOAD_FORMAT, read_weights
from turbospec.engines.stage import cpu_worker
from vllm.model_executor.model_loader import register_model_loader
from vllm.model_executor.model_loader.base_loader import BaseModelLoader

EXTENSION = f"{__name__}.WorkerExtension"
"""For `--worker-extension-cls`."""

# What each layer writes into the residual stream.
_WRITERS = ("self_attn.o_proj", "mlp.down_proj")


@register_model_loader(LOAD_FORMAT)
class Loader(BaseModelLoader):  # type: ignore[misc]
    """Makes the weights where they are wanted, one tensor at a time."""

    def download_model(self, model_config: Any) -> None:
        """Nothing to download."""

    def load_weights(self, model: Any, model_config: Any) -> None:
        """Fills the model as a checkpoint would."""
        device = next(model.parameters()).device
        model.load_weights(read_weights(Path(model_config.model), str(device)))
        if device.type == "cuda":  # other engines start on the same device meanwhile
            torch.cuda.empty_cache()


class WorkerExtension(cpu_worker.WorkerExtension):
    """Calls that the benchmark makes into the worker."""

    def turbospec_scale_layers(self, first: int, factor: float) -> int:
        """Scales what the target's layers from `first` on write, in place; how many matrices that were.

        Captured graphs read the same memory, so this changes what they compute.
        """
        scaled = 0
        for name, module in self.model_runner.get_model().named_modules():  # type: ignore[attr-defined]
            prefix, _, rest = name.partition("layers.")
            layer, _, kind = rest.partition(".")
            if prefix and kind in _WRITERS and int(layer) >= first:
                _scale(module, factor)
                scaled += 1
        return scaled


def _scale(linear: Any, factor: float) -> None:
    packed = getattr(linear, "cpu_linear", None)
    if packed is None:
        linear.weight.data.mul_(factor)
    else:  # on CPUs the weights have been packed where nothing can reach them
        linear.cpu_linear = lambda *inputs: packed(*inputs) * factor
