"""How to look inside while the demonstration runs: commands with its real addresses."""

from __future__ import annotations

from turbospec.engines.demo.stage import ENGINE_ID, MODEL_NAME, Stage


def ways_to_look(stage: Stage) -> list[str]:
    """Lines for a person to copy into another terminal."""
    service = f"{stage.introspection} turbospec.v1.IntrospectionService"
    engine = f'{{"engine_id": "{ENGINE_ID}"}}'
    return [
        "Look inside meanwhile, from another terminal:",
        f"  turbospec status --address {stage.introspection}",
        f"  grpcurl -plaintext {stage.introspection} list",
        f"  grpcurl -plaintext {service}/ListEngines",
        f"  grpcurl -plaintext -d '{engine}' {service}/GetEngine",
        f"  grpcurl -plaintext -d '{engine}' {service}/ExplainDecisions",
        f"  curl {stage.controlled}/v1/completions -H 'Content-Type: application/json' "
        f'-d \'{{"model": "{MODEL_NAME}", "prompt": "baba bebe", "max_tokens": 20}}\'',
    ]
