"""Base models by name: the demo's, a folder, the hub's from its cache; and the default adapter."""

from pathlib import Path

import huggingface_hub
import pytest

from models.common import paths
from models.common.errors import GrapeError, InputError
from models.demo.llm import DEMO_LLMS
from models.rewriter.base_model import (
    adapter_folder,
    checkpoint_revision,
    find_checkpoint,
    local_checkpoint,
)
from service.runtime import loading
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
    loading._checkpoint.cache_clear()
    return folder


def test_training_and_serving_compare_the_same_weights(snapshot: Path) -> None:
    assert find_checkpoint(NAME) == snapshot
    trained = LanguageModel.named(NAME)
    assert (trained.name, Path(trained.path)) == (NAME, snapshot)
    served = model_path(Settings(llm=NAME, adapter="mine"))
    assert trained.revision == checkpoint_revision(Path(served)) == checkpoint_revision(snapshot)


def test_the_engine_is_given_a_folder(snapshot: Path) -> None:
    """So that nothing but GRAPE asks the hub."""
    for adapter in ("auto", "none"):
        assert model_path(Settings(llm=NAME, adapter=adapter)) == str(snapshot)


@pytest.mark.usefixtures("snapshot")
def test_a_model_that_cannot_be_found() -> None:
    with pytest.raises(GrapeError, match=r"someone/other is not in .*HF_HUB_OFFLINE switches"):
        find_checkpoint("someone/other")
    with pytest.raises(InputError, match="'no/such/name' is neither a folder nor a name"):
        find_checkpoint("no/such/name")


def test_the_demos_models_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(DEMO_LLMS) == paths.DEMO_LLM_NAMES
    monkeypatch.setenv("GRAPE_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    name = paths.DEFAULT_LLM
    Path(name).mkdir()  # a folder of that name is meant only where its path is written out
    for find in (find_checkpoint, local_checkpoint, LanguageModel.named):
        with pytest.raises(InputError, match=f"run `grape demo prepare --llm {name}` first"):
            find(name)
    assert find_checkpoint(f"./{name}") == Path(name)
    paths.checkpoint_dir(name).mkdir(parents=True)
    loading._checkpoint.cache_clear()
    assert find_checkpoint(name) == paths.checkpoint_dir(name)
    assert LanguageModel.named(name).name == name
    assert model_path(Settings(llm=name)) == str(paths.checkpoint_dir(name))


def test_a_trained_adapter_does_not_reveal_where_the_model_was(tmp_path: Path) -> None:
    folder = tmp_path / "secret" / "my-model"
    folder.mkdir(parents=True)
    model = LanguageModel.named(str(folder))
    assert (model.name, model.path) == ("my-model", str(folder))
    assert local_checkpoint("someone/elsewhere") is None


@pytest.mark.parametrize(
    ("adapter", "llm", "index", "folder"),
    [
        ("auto", paths.DEFAULT_LLM, None, paths.ADAPTER),
        ("auto", paths.DEFAULT_LLM, paths.index_dir(), paths.ADAPTER),
        ("auto", paths.DEFAULT_LLM, Path("mine"), None),
        ("auto", "another", None, None),
        ("none", paths.DEFAULT_LLM, None, None),
        ("mine", "another", Path("mine"), Path("mine")),
    ],
)
def test_auto_is_the_demos_adapter_for_its_model_and_its_gallery(
    adapter: str, llm: str, index: Path | None, folder: Path | None
) -> None:
    assert adapter_folder(adapter, llm, index) == folder
