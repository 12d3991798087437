"""What the adapter asks of vLLM's classes, recorded from the source of a version that does not run here.

    python tests/support/recorded_vllm.py FOLDER VERSION > tests/adapters/recorded/vllm-VERSION.json

FOLDER is an unpacked wheel. `modules` makes classes of the same members out of the recording.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

_CLASSES = {
    "vllm.config.model": ("ModelConfig",),
    "vllm.config.speculative": ("SpeculativeConfig",),
    "vllm.config.vllm": ("VllmConfig",),
    "vllm.v1.core.block_pool": ("BlockPool",),
    "vllm.v1.core.kv_cache_coordinator": ("KVCacheCoordinator",),
    "vllm.v1.core.kv_cache_manager": ("KVCacheManager",),
    "vllm.v1.core.sched.output": ("CachedRequestData", "NewRequestData", "SchedulerOutput"),
    "vllm.v1.core.sched.scheduler": ("Scheduler",),
    "vllm.v1.core.sched.async_scheduler": ("AsyncScheduler",),
    "vllm.v1.core.single_type_kv_cache_manager": ("SingleTypeKVCacheManager",),
    "vllm.v1.engine": ("EngineCoreOutput", "EngineCoreOutputs"),
    "vllm.v1.engine.core": ("EngineCore",),
    "vllm.v1.outputs": ("ModelRunnerOutput",),
    "vllm.v1.request": ("Request",),
    "vllm.v1.spec_decode.llm_base_proposer": ("SpecDecodeBaseProposer",),
    "vllm.v1.worker.gpu_model_runner": ("GPUModelRunner",),
    "vllm.v1.worker.worker_base": ("WorkerWrapperBase",),
}
_REEXPORTED = {"vllm.config": ("ModelConfig", "SpeculativeConfig", "VllmConfig")}


def record(folder: Path, version: str) -> dict[str, Any]:
    """Methods with their parameters, and attributes, of every class; by module and class."""
    recorded = {}
    for module, names in _CLASSES.items():
        path = folder.joinpath(*module.split("."))
        tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text())
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        recorded[module] = {name: _class(classes[name]) for name in names}
    return {"version": version, "modules": recorded}


def modules(recording: dict[str, Any]) -> dict[str, ModuleType]:
    """Stand-ins for vLLM's modules, by name; parents first."""
    made: dict[str, type] = {}
    found = {"vllm": ModuleType("vllm")}
    found["vllm"].__version__ = recording["version"]  # type: ignore[attr-defined]
    for module, classes in recording["modules"].items():
        parts = module.split(".")
        for i in range(2, len(parts) + 1):
            found.setdefault(".".join(parts[:i]), ModuleType(".".join(parts[:i])))
        for name, members in classes.items():
            bases = tuple(made[base] for base in members["bases"] if base in made)
            made[name] = type(name, bases, _members(members))
            setattr(found[module], name, made[name])
    for module, names in _REEXPORTED.items():
        for name in names:
            setattr(found[module], name, made[name])
    return found


def _class(node: ast.ClassDef) -> dict[str, Any]:
    functions = [each for each in node.body if isinstance(each, ast.FunctionDef)]
    attributes = {
        each.target.id
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    }
    for function in functions:
        if function.name == "__init__":
            attributes |= {
                each.attr
                for each in ast.walk(function)
                if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
            }
    return {
        "bases": [base.id for base in node.bases if isinstance(base, ast.Name)],
        "attributes": sorted(attributes),
        "methods": {
            function.name: [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
            for function in functions
        },
        "values_returned": {
            function.name: len(annotation.slice.elts)
            for function in functions
            if isinstance(annotation := function.returns, ast.Subscript)
            and isinstance(annotation.slice, ast.Tuple)
            and ast.unparse(annotation.value) == "tuple"
        },
    }


def _members(recorded: dict[str, Any]) -> dict[str, Any]:
    members: dict[str, Any] = dict.fromkeys(recorded["attributes"])
    for name, parameters in recorded["methods"].items():
        scope: dict[str, Any] = {}
        exec(f"def {name}({', '.join(parameters)}): ...", scope)
        members[name] = scope[name]
    return members


if __name__ == "__main__":
    json.dump(record(Path(sys.argv[1]), sys.argv[2]), sys.stdout, indent=None, separators=(",", ":"))
    sys.stdout.write("\n")
