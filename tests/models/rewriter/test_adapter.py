"""Adapter folders: what fits, what is refused and why, and merging with real PEFT."""

import errno
import json
import multiprocessing
import multiprocessing.synchronize
import os
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, Gemma3TextConfig, PreTrainedTokenizerFast

from models.common import paths
from models.common.errors import GrapeError, InputError
from models.rewriter.adapter import (
    Canary,
    open_adapter,
    unapplied_canaries,
)
from models.rewriter.base_model import checkpoint_revision, find_checkpoint
from models.rewriter.merge import merge_adapter, merge_weights
from models.rewriter.tasks import MULTILINGUAL

CANARIES = [
    {"task": "multilingual", "query": "q1", "base": "same", "tuned": "same"},
    {"task": "multilingual", "query": "q2", "base": " old", "tuned": "new"},
]
DREAMS = [{"task": "dreams", "query": "q", "base": "old", "tuned": "new"}]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma of a few thousand random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=64,
        layer_types=["full_attention"] * 2,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{n}": n for n in range(32)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="w0").save_pretrained(folder)
    return folder


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    """What `grape train` will write, with random weights."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(
        model, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    )
    folder = tmp_path / "adapter"
    tuned.save_pretrained(str(folder))
    manifest = {
        "base_model": "tiny-gemma",
        "base_revision": checkpoint_revision(base),
        "tasks": {"multilingual": MULTILINGUAL.hash},
        "encoder": "demo",
        "encoder_weights_sha256": "0",
        "corpus_sha256": "0",
        "reward": {"name": "rank_log"},
        "seed": 0,
        "versions": {},
        "metrics_before": {},
        "metrics_after": {},
        "canaries": CANARIES,
    }
    (folder / "grape.json").write_text(json.dumps(manifest))
    return folder


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_fitting_adapter_opens_and_its_name_carries_its_content(
    base: Path, adapter: Path
) -> None:
    opened = open_adapter(adapter, checkpoint_revision(base))
    assert opened.rank == 4
    assert opened.name == f"multilingual-{opened.content_sha256[:12]}"
    change(adapter / "grape.json", seed=1)
    assert open_adapter(adapter, checkpoint_revision(base)).name != opened.name


@pytest.mark.parametrize(
    ("file", "values", "reason"),
    [
        ("adapter_config.json", {"r": 128}, "rank 128 is over the limit of 64"),
        ("adapter_config.json", {"modules_to_save": ["lm_head"]}, "replaces whole modules"),
        ("adapter_config.json", {"peft_type": "IA3"}, "only LORA is served"),
        ("grape.json", {"base_revision": "f" * 64}, "trained on tiny-gemma ffffffffffff"),
        (
            "grape.json",
            {"tasks": {"dreams": "0"}, "canaries": DREAMS},
            "'dreams' is not one of composed, likelihood, likelihood-long, long",
        ),
        ("grape.json", {"tasks": {"multilingual": "0"}}, "another prompt or parser"),
        ("grape.json", {"canaries": CANARIES[:1]}, "changes no canary's answer"),
        ("grape.json", {"canaries": []}, "cannot be read"),
    ],
)
def test_an_adapter_that_does_not_fit_is_refused(
    base: Path, adapter: Path, file: str, values: dict[str, object], reason: str
) -> None:
    change(adapter / file, **values)
    with pytest.raises(InputError, match=reason):
        open_adapter(adapter, checkpoint_revision(base))


@pytest.mark.parametrize("file", ["grape.json", "adapter_config.json", "adapter_model.safetensors"])
def test_a_missing_file_is_named(base: Path, adapter: Path, file: str) -> None:
    (adapter / file).unlink()
    with pytest.raises(InputError, match=f"{file} is missing"):
        open_adapter(adapter, checkpoint_revision(base))


def test_merging_gives_what_peft_gives(base: Path, adapter: Path, tmp_path: Path) -> None:
    opened = open_adapter(adapter, checkpoint_revision(base))
    merged = merge_adapter(base, opened, tmp_path / "cache")
    tokens = torch.arange(12).reshape(1, 12)
    plain = AutoModelForCausalLM.from_pretrained(base)
    untuned = plain(tokens).logits
    attached = PeftModel.from_pretrained(plain, str(adapter))(tokens).logits
    together = AutoModelForCausalLM.from_pretrained(merged)(tokens).logits
    torch.testing.assert_close(together, attached, atol=1e-4, rtol=1e-4)
    assert (together - untuned).abs().max() > 1e-2
    before = (merged / "config.json").stat().st_mtime_ns
    assert merge_adapter(base, opened, tmp_path / "cache") == merged
    assert (merged / "config.json").stat().st_mtime_ns == before


def merge_at_once(
    model: Path, lora: Path, target: Path, gate: multiprocessing.synchronize.Barrier
) -> None:
    import models.common.files

    place = models.common.files.place_folder

    def place_together(finished: Path, target: Path, replace: bool) -> None:
        gate.wait(300)  # both have merged, and neither checkpoint is in place
        place(finished, target, replace=replace)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models.common.files, "place_folder", place_together)
        assert merge_weights(model, lora, target) == target


@pytest.mark.heavy
def test_two_processes_that_merge_the_same_adapter_both_succeed(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    gate, target = context.Barrier(2), tmp_path / "cache" / "merged"
    other = context.Process(target=merge_at_once, args=(base, adapter, target, gate))
    other.start()
    merge_at_once(base, adapter, target, gate)
    other.join(60)
    assert other.exitcode == 0
    assert os.listdir(target.parent) == ["merged"]
    AutoModelForCausalLM.from_pretrained(target)


def test_a_full_disk_leaves_no_half_checkpoint(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("models.common.files.os.fsync", full)
    target = tmp_path / "cache" / "merged"
    with pytest.raises(GrapeError, match=r"could not be merged into .*No space left on device"):
        merge_weights(base, adapter, target)
    assert os.listdir(target.parent) == []


def test_merged_checkpoints_that_were_not_used_for_long_are_deleted(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    opened = open_adapter(adapter, checkpoint_revision(base))
    cache = tmp_path / "cache"
    wanted = cache / f"{opened.name}-on-{opened.manifest.base_revision[:12]}"
    others = [cache / f"multilingual-{number}-on-0" for number in range(8)]
    for age, folder in enumerate([*others, wanted]):  # the wanted one is the oldest
        folder.mkdir(parents=True)
        os.utime(folder, (1e9 - age, 1e9 - age))
    unfinished = cache / ".multilingual-9-on-0.123"  # of another process
    unfinished.mkdir()
    assert merge_adapter(base, opened, cache) == wanted
    assert sorted(cache.iterdir()) == sorted([unfinished, wanted, *others[:5]])


def test_canaries_that_show_the_base_model(base: Path, adapter: Path) -> None:
    opened = open_adapter(adapter, checkpoint_revision(base))
    assert unapplied_canaries(opened, ["same", "new"]) == []
    assert unapplied_canaries(opened, ["same", "something else"]) == []
    assert unapplied_canaries(opened, ["same", "old "]) == ["q2"]
    assert Canary(**CANARIES[0]).query == "q1"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("folder", "tasks"),
    [
        (paths.ADAPTER, {"multilingual", "long", "composed"}),
        (paths.RERANKER, {"likelihood", "likelihood-long"}),
    ],
)
def test_what_ships_fits_the_demos_model(folder: Path, tasks: set[str]) -> None:
    revision = checkpoint_revision(find_checkpoint(paths.DEFAULT_LLM))
    adapter = open_adapter(folder, revision)
    assert set(adapter.tasks) == tasks
    assert "Gemma Terms of Use" in (folder / "README.md").read_text()
