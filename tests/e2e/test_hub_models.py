"""Models by name, from the hub to a served adapter: real libraries, engines and tokenizers."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.rewriter.adapter import open_adapter
from tests.support.grape_server import Server
from tests.support.hub import TOKEN, Hub, running_hub
from tests.support.hub_chain import grape, write_pictures, write_rows, write_settings
from tests.support.hub_encoders import ENCODERS, write_encoder, write_xlm_roberta
from tests.support.hub_models import FAMILIES, write_model
from tests.support.vision_checkpoint import write_checkpoint


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with everything."""
    folder = tmp_path_factory.mktemp("models")
    tower = write_xlm_roberta(folder / "tower")
    with running_hub() as hub:
        hub.repository("xlm-roberta-base").commit(tower)
        for key, family in FAMILIES.items():
            gated = key in ("llama3.2", "gemma3")
            made = write_model(folder / key, family)
            hub.repository(family.name, gated=gated).commit(made)
        for key, encoder in ENCODERS.items():
            made = write_encoder(folder / key, encoder, tower if key == "xlm-roberta" else None)
            hub.repository(encoder.name).commit(made)
        yield hub


@pytest.mark.slow  # tests/training/test_hub_families.py trains each family in make test
@pytest.mark.parametrize(
    ("llm", "style", "encoder", "samples"),
    [
        ("qwen3", "chat", "siglip2", False),
        ("qwen2.5", "plain", "vit-b-32", True),
        ("llama3.2", "chat", "vit-l-14-quickgelu", True),
        ("gemma3", "chat", "mobileclip2", True),
        ("smollm2", "chat", "xlm-roberta", True),
    ],
)
def test_from_two_names_to_a_served_adapter(
    filled: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    llm: str,
    style: str,
    encoder: str,
    samples: bool,
) -> None:
    """The canaries of the adapter prove that it is applied, or the server would not be ready."""
    for name, value in {**filled.environment(tmp_path / "hf"), "HF_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GRAPE_CACHE", str(tmp_path / "grape"))
    index, name = tmp_path / "index", FAMILIES[llm].name
    pictures = write_pictures(tmp_path / "pictures")
    named = f"hf-hub:{ENCODERS[encoder].name}"
    grape("index", "build", pictures, "--out", index, "--encoder", named)
    commit = filled.repository(ENCODERS[encoder].name).names["main"]
    assert json.loads((index / "manifest.json").read_text())["encoder"]["revision"] == commit

    settings = write_settings(tmp_path / "train.yaml", index, name, samples, prompt_style=style)
    done = grape("train", "--config", settings)
    assert f"Fetching {name} from {filled.url}" in done.stderr
    adapter = open_adapter(tmp_path / "adapter", None)
    commit = filled.repository(name).names["main"]
    assert (adapter.manifest.base_model, adapter.manifest.base_commit) == (name, commit)
    assert (adapter.manifest.chat_template is not None) is (style == "chat")

    filled.asked.clear()
    flags = ("--index", str(index), "--llm", f"{name}@{commit}", "--adapter", str(adapter.folder))
    server = Server(tmp_path / "log", *flags, "--llm-kv-cache-gib", "0.1")
    try:
        server.wait_until_ready()
        assert filled.asked == []  # everything is here, at the commits that are recorded
        told = server.client.post("/rewrite", json={"query": "Kreis in rot"}).json()
        (result,) = told["results"]
        assert result["status"] in ("rewritten", "fallback"), result  # a random model's answer
        assert adapter.name in server.client.get("/info").text
        found = server.search("Kreis in rot", rewrite="always", k=3)
        assert len(found["hits"]) == 3  # type: ignore[arg-type]
        assert ENCODERS[encoder].name in server.client.get("/info").text
    finally:
        server.stop()


@pytest.mark.slow
def test_a_vision_model_from_the_hub_sees_the_picture(
    filled: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processor's files come along. A random model says anything, or nothing that is usable."""
    name = "Qwen/Qwen2.5-VL-tiny"
    commit = filled.repository(name).commit(write_checkpoint(tmp_path / "made", "qwen2_5_vl"))
    for variable, value in filled.environment(tmp_path / "hf").items():
        monkeypatch.setenv(variable, value)
    pictures, index = write_pictures(tmp_path / "pictures"), tmp_path / "index"
    grape("index", "build", pictures, "--out", index)
    flags = ("--index", str(index), "--llm", f"{name}@{commit}", "--adapter", "none")
    server = Server(tmp_path / "log", *flags, "--llm-kv-cache-gib", "0.1")
    try:
        server.wait_until_ready()
        first = server.search("circle", rewrite="never", k=1)["hits"][0]["id"]  # type: ignore[index]
        found = server.search("but blue", image_id=first, rewrite="always", k=3)
        # The pictures have no captions, so that a model that sees none would not be asked.
        assert found["rewrite"]["status"] in ("rewritten", "fallback")  # type: ignore[index]
        assert first not in [hit["id"] for hit in found["hits"]]  # type: ignore[attr-defined]
    finally:
        server.stop()


@pytest.mark.slow
@pytest.mark.parametrize("llm", FAMILIES)
def test_a_model_of_a_family_is_served_and_measured_both_ways(
    filled: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, llm: str
) -> None:
    """Its answers make no sense, so that what is compared is that there are any."""
    for name, value in {**filled.environment(tmp_path / "hf"), "HF_TOKEN": TOKEN}.items():
        monkeypatch.setenv(name, value)
    index = tmp_path / "index"
    grape("index", "build", write_pictures(tmp_path / "pictures"), "--out", index)
    data = write_rows(tmp_path / "rows.jsonl")
    for style in ("plain", "chat"):
        done = grape(
            "eval", "--index", index, "--data", data, "--llm",
            FAMILIES[llm].name, "--systems", "direct,frozen", "--prompt-style", style,
            "--work", tmp_path / style,
        )  # fmt: skip
        assert "frozen" in done.stdout
    plain, chat = (
        next((tmp_path / style).glob("rewrites-*")).read_text() for style in ("plain", "chat")
    )
    assert plain != chat
