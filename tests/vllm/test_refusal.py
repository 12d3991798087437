from __future__ import annotations

from typing import Any

import pytest
from support.vllm_setup import speculative_config
from turbospec.adapters.support import RefusedError, Status
from turbospec.adapters.vllm.methods import METHODS
from turbospec.adapters.vllm.refusal import deep_off_obstacle, method_support
from turbospec.engines.models import MadeModels


@pytest.fixture(scope="module")
def vllm_config(models: MadeModels) -> Any:
    """vLLM's own, made for an engine with a draft model."""
    from vllm.engine.arg_utils import EngineArgs

    arguments = EngineArgs(
        model=str(models.target),
        speculative_config=speculative_config("draft_model", models),
        max_model_len=256,
    )
    return arguments.create_engine_config()


def test_a_known_configuration_is_supported(vllm_config: Any) -> None:
    """The method as vLLM itself names it, for the runner that vLLM chose, is in the table."""
    support = method_support(vllm_config, {})
    assert support == METHODS["draft_model", 1]
    assert support.status is Status.RUN


@pytest.mark.parametrize(
    ("where", "field", "value", "reason"),
    [
        ("speculative_config", "method", "extract_hidden_states", "extract_hidden_states"),
        ("speculative_config", "method", "mlp_speculator", "no such drafter in this runner"),
        ("speculative_config", "method", "brand_new", "'brand_new' is not known"),
        ("speculative_config", "rejection_sample_method", "block", "rejection_sample_method"),
        ("speculative_config", "enable_adaptive_verification", True, "enable_adaptive_verification"),
        (
            "speculative_config",
            "num_speculative_tokens",
            65,
            "num_speculative_tokens is 65; between 1 and 64",
        ),
        ("parallel_config", "pipeline_parallel_size", 2, "pipeline_parallel_size"),
        ("parallel_config", "data_parallel_size", 2, "share experts"),
        ("model_config", "is_diffusion", True, "diffusion models"),
    ],
)
def test_refusal_says_why(
    vllm_config: Any, monkeypatch: pytest.MonkeyPatch, where: str, field: str, value: Any, reason: str
) -> None:
    """Each configuration that the hooks would misread or endanger is refused, naming what to change."""
    monkeypatch.setattr(getattr(vllm_config, where), field, value)
    with pytest.raises(RefusedError, match=reason):
        method_support(vllm_config, {})


@pytest.mark.parametrize(
    ("where", "field", "value", "hooked", "obstacle"),
    [
        ("parallel_config", "nnodes", 1, True, None),
        ("parallel_config", "distributed_executor_backend", "ray", True, "not installed"),
        ("parallel_config", "nnodes", 2, True, "not installed"),
        (None, "kv_transfer_config", object(), True, "KV connector"),
        ("parallel_config", "nnodes", 1, False, "TURBOSPEC_CONTROL_ADDRESS"),
    ],
)
def test_the_drafter_is_skipped_only_where_every_worker_can(
    vllm_config: Any,
    monkeypatch: pytest.MonkeyPatch,
    where: str | None,
    field: str,
    value: Any,
    hooked: bool,
    obstacle: str | None,
) -> None:
    """And only where the adapter sees every block that comes back without draft KV."""
    monkeypatch.setattr(getattr(vllm_config, where) if where else vllm_config, field, value)
    found = deep_off_obstacle(vllm_config, hooked=hooked)
    assert (found is None) is (obstacle is None)
    assert obstacle is None or obstacle in str(found)


def test_disabled_by_the_environment(vllm_config: Any) -> None:
    """TURBOSPEC_DISABLE=1 runs vLLM as it is; another value does not."""
    with pytest.raises(RefusedError, match="TURBOSPEC_DISABLE=1"):
        method_support(vllm_config, {"TURBOSPEC_DISABLE": "1"})
    method_support(vllm_config, {"TURBOSPEC_DISABLE": "0"})


def test_no_speculation_is_refused(vllm_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine without speculation has nothing to control."""
    monkeypatch.setattr(vllm_config, "speculative_config", None)
    with pytest.raises(RefusedError, match="--speculative-config"):
        method_support(vllm_config, {})


def test_parallel_drafting_keeps_its_length(vllm_config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drafter that lays out its slots for the configured length is always asked for that length."""
    monkeypatch.setattr(vllm_config.speculative_config, "parallel_drafting", True)
    support = method_support(vllm_config, {})
    assert not support.proposal_settable
    assert support.verification_per_request
