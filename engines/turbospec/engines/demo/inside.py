"""How to look inside while the demonstration runs: commands with its real addresses."""

from __future__ import annotations

from turbospec.engines.stage.controller import Controller
from turbospec.engines.stage.engines import MODEL_NAME, Engine


def ways_to_look(controller: Controller, controlled: Engine) -> list[str]:
    """Lines for a person to copy into another terminal."""
    service = f"{controller.introspection} turbospec.v1.IntrospectionService"
    engine = f'{{"engine_id": "{controlled.name}"}}'
    return [
        "Look inside meanwhile, from another terminal:",
        f"  turbospec status --address {controller.introspection}",
        f"  grpcurl -plaintext {controller.introspection} list",
        f"  grpcurl -plaintext {service}/ListEngines",
        f"  grpcurl -plaintext -d '{engine}' {service}/GetEngine",
        f"  grpcurl -plaintext -d '{engine}' {service}/ExplainDecisions",
        f"  curl {controlled.url}/v1/completions -H 'Content-Type: application/json' "
        f'-d \'{{"model": "{MODEL_NAME}", "prompt": "baba bebe", "max_tokens": 20}}\'',
    ]
