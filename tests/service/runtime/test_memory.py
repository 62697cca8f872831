"""A model that cannot fit is refused before it is loaded, with the size that would fit."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from models.common.errors import InputError
from models.rewriter.vllm_engine import VLLMOptions
from service.runtime import loading


def test_a_model_that_cannot_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(3 * 2**30)  # takes no disk
    monkeypatch.setattr(loading, "attaches_adapters", lambda: False)
    free = SimpleNamespace(available=3 * 2**30)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    options = VLLMOptions(str(tmp_path), kv_cache_gib=1.0)
    with pytest.raises(InputError) as refused:
        loading.require_memory(options)
    assert str(refused.value) == (
        f"{tmp_path} needs 3.0 GiB for its weights and 1.0 GiB for its cache, and 3.0 GiB are "
        "free: a model with weights of at most 2.0 GiB would fit, or lower --llm-kv-cache-gib."
    )
    free.available = 5 * 2**30
    loading.require_memory(options)
    free.available = 2**20
    monkeypatch.setattr(loading, "attaches_adapters", lambda: True)
    loading.require_memory(options)
