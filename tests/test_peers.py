"""The benchmark beside other programs: its formats, its pins and its table. Needs no peer."""

import re
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from benchmarks.load import Load
from benchmarks.pages import PERFORMANCE
from benchmarks.peers import hf_format, searching
from benchmarks.peers.__main__ import page
from benchmarks.peers.environments import HERE
from benchmarks.peers.searching import Turn, told

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 128, "patch_size": 32},
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2,
    },
}  # fmt: skip
TEXTS = ["a red fox in the snow", "Ein CAFÉ, 2 boats & 1 dog's hat!", "a", "雨の中の街"]
REQUIREMENTS = sorted(HERE.glob("requirements-*.txt"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    hf_format.write_tokenizer(folder)
    read: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder)
    return read


def test_transformers_reads_the_same_tokens(tokenizer: CLIPTokenizer) -> None:
    right = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    for text, ids in zip(TEXTS, right.tolist(), strict=True):
        end = ids.index(max(ids)) + 1
        assert tokenizer(text)["input_ids"] == ids[:end]


def test_transformers_computes_the_same_vectors(tokenizer: CLIPTokenizer) -> None:
    torch.manual_seed(0)
    ours = CLIP(**TINY).eval()
    theirs = CLIPModel(CLIPConfig(**hf_format.clip_config(TINY))).eval()
    theirs.load_state_dict(dict(hf_format.renamed(ours.state_dict())))
    pixels = torch.randn(len(TEXTS), 3, 64, 64)
    padded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = theirs(pixel_values=pixels, **padded)
        tokens = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
        texts = ours.encode_text(tokens, normalize=True)
        pictures = ours.encode_image(pixels, normalize=True)
    np.testing.assert_allclose(found.text_embeds, texts, atol=1e-5)
    np.testing.assert_allclose(found.image_embeds, pictures, atol=1e-5)


@pytest.mark.parametrize("file", REQUIREMENTS, ids=lambda file: file.stem)
def test_every_version_is_pinned(file: Path) -> None:
    lines = file.read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    # They are linked from this project's environment.
    assert not {"torch", "torchvision"} & {line.split("==")[0] for line in lines}


def test_the_page_names_the_versions_that_are_measured() -> None:
    told = PERFORMANCE.read_text()
    peers = {"infinity": "infinity_emb", "clip-retrieval": "clip_retrieval", "rclip": "rclip"}
    for name, package in peers.items():
        pins = (HERE / f"requirements-{name}.txt").read_text()
        pinned = re.search(rf"^{package}==(.+)$", pins, re.MULTILINE)
        assert pinned
        assert f"{package.replace('_', '-')} {pinned[1]}" in told


def test_a_row_has_the_medians_and_whether_the_bar_is_held() -> None:
    ours, theirs = Load([0.01] * 100, 1.0), Load([0.02] * 100, 2.0)
    assert told("infinity", 1, [Turn(ours, theirs)] * 2) == (
        "| infinity | 1 | 100.0 | 50.0 | 2.00 | 1.5 | 10.0 | 20.0 | yes |"
    )
    late = Load([0.03] * 100, 1.0)  # as many answers, but each one later than the peer's
    assert told("infinity", 1, [Turn(late, theirs)]).endswith("| **no** |")
    assert told("plain", 8, [Turn(ours, theirs)]).endswith("| 2.00 |  | 10.0 | 20.0 |  |")


def test_the_tables_leave_out_what_was_not_measured() -> None:
    kept = {"search": {"infinity": ["| b |"], "plain": ["| a |"]}}
    assert page(kept) == "\n".join([*searching.HEAD, "| a |", "| b |"])
