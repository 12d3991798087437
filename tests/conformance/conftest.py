"""What the suite's real engines share."""

from __future__ import annotations

import pytest
from turbospec.engines.models import MadeModels, make_models


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> MadeModels:
    """A pair that disagrees often, so that drafts of every length are also rejected."""
    return make_models(tmp_path_factory.mktemp("models"), "low", size="tiny")
