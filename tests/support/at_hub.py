"""The stub hub for what runs in the process of the tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.support.hub import Hub, running_hub


def use_hub(hub: Hub, cache: Path, patch: pytest.MonkeyPatch) -> None:
    """Points the library, which has read the environment already, at the hub."""
    patch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setenv("NO_PROXY", "127.0.0.1,localhost")
    patch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, and an empty cache."""
    with running_hub() as running:
        use_hub(running, tmp_path / "hub-cache", monkeypatch)
        yield running
