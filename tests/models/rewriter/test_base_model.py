"""Base models that are named on the hub, from its cache and without a network."""

from pathlib import Path

import huggingface_hub
import pytest

from models.common.errors import InputError
from models.rewriter.base_model import checkpoint_revision, find_checkpoint
from service.runtime.loading import model_path
from service.settings import Settings
from training.stages.language_model import LanguageModel

NAME = "someone/tiny-model"


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache as its library leaves it."""
    cache = tmp_path / "models--someone--tiny-model"
    folder = cache / "snapshots" / ("a" * 40)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text("{}")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return folder


def test_training_and_serving_compare_the_same_weights(snapshot: Path) -> None:
    assert find_checkpoint(NAME) == snapshot
    trained = LanguageModel.named(NAME)
    assert (trained.name, Path(trained.path)) == (NAME, snapshot)
    served = model_path(Settings(llm=NAME, adapter="mine"))
    assert trained.revision == checkpoint_revision(Path(served)) == checkpoint_revision(snapshot)


def test_without_an_adapter_the_engine_fetches_by_itself() -> None:
    for adapter in ("auto", "none"):
        assert model_path(Settings(llm=NAME, adapter=adapter)) == NAME


@pytest.mark.usefixtures("snapshot")
def test_a_model_that_cannot_be_found() -> None:
    with pytest.raises(InputError, match="someone/other cannot be found: "):
        find_checkpoint("someone/other")
    with pytest.raises(InputError, match="no/such/name cannot be found: "):
        find_checkpoint("no/such/name")
