"""What the settings say of a running server's adapters."""

from pathlib import Path

import pytest

from models.common.errors import GrapeError, InputError
from models.rewriter.vllm import VLLMOptions
from service.runtime.loading import open_registry, require_room
from service.settings import Settings
from tests.support.adapter_folders import write_base


def test_a_second_engine_needs_memory(tmp_path: Path) -> None:
    model = str(write_base(tmp_path / "base"))
    require_room(VLLMOptions(model, kv_cache_gib=0.001))
    with pytest.raises(GrapeError, match=r"needs about 100000\.0 GiB .* GiB are free"):
        require_room(VLLMOptions(model, kv_cache_gib=100_000))


def test_a_registry_is_a_folder_and_needs_a_model_in_this_process(tmp_path: Path) -> None:
    assert open_registry(Settings()) is None
    with pytest.raises(InputError, match="is not a folder: make it first"):
        open_registry(Settings(adapter_registry=tmp_path / "none"))
    for without in ({"llm_endpoint": "http://127.0.0.1:9/v1"}, {"llm": "none"}):
        with pytest.raises(InputError, match="needs the model in this process"):
            open_registry(Settings(adapter_registry=tmp_path, **without))  # type: ignore[arg-type]
    registry = open_registry(Settings(adapter_registry=tmp_path))
    assert registry
    assert registry.names() == []
