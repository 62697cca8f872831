"""Queries about a picture by a vision LLM: real architectures in a real engine, random weights."""

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.common.settings import config_file
from models.rewriter.tasks import MULTILINGUAL, STOP
from models.rewriter.vision import (
    RATED,
    SEEN,
    messages,
    picture_to_show,
    rating_messages,
)
from service.runtime.loading import start_rewriter, vllm_options
from service.settings import Settings
from tests.support.grape_server import GRAPE
from tests.support.hub_chain import grape, write_pictures
from tests.support.vision_checkpoint import Architecture, write_checkpoint
from tests.support.vision_probe import IMAGE_PIXELS, MAX_LEN, PICTURES, QUERY, SIZES, picture, png

ROOT = Path(__file__).parent.parent.parent
HALF_A_LETTER = "\N{REPLACEMENT CHARACTER}"
PAGE = ROOT / "docs" / "composed.md"
UNIT: dict[Architecture, int] = {"qwen2_5_vl": 28, "qwen3_vl": 32}  # pixels that one token spans


class Probe(NamedTuple):
    checkpoint: Path
    process: subprocess.Popen[str]


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in UNIT]
)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    chosen: Architecture = request.param
    return chosen


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory, architecture: Architecture) -> Iterator[Probe]:
    """An engine with a checkpoint of the architecture."""
    checkpoint = write_checkpoint(tmp_path_factory.mktemp(architecture), architecture)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.vision_probe", str(checkpoint)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip
    yield Probe(checkpoint, process)
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def found(probe: Probe) -> dict[str, Any]:
    """All that the engine answered, see tests/support/vision_probe.py."""
    output, complaints = probe.process.communicate()
    assert probe.process.returncode == 0, complaints
    answers: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answers


class Reference:
    """The same prompts by the library that the checkpoint's makers publish it for."""

    def __init__(self, checkpoint: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(checkpoint)
        self.model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)

    def about(self, image: Image.Image) -> str:
        chat = messages({"type": "image", "image": image}, QUERY)
        inputs = self.processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        return self._written(inputs, SEEN.max_tokens)

    def ratings(self, images: list[Image.Image]) -> str:
        chat = rating_messages([{"type": "image", "image": image} for image in images], "Hund")
        inputs = self.processor.apply_chat_template(
            chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        return self._written(inputs, RATED.max_tokens)

    def text(self, query: str) -> str:
        inputs = self.processor.tokenizer(MULTILINGUAL.prompt(query), return_tensors="pt")
        return self._written({"input_ids": inputs["input_ids"]}, MULTILINGUAL.max_tokens)

    def _written(self, inputs: Mapping[str, torch.Tensor], max_tokens: int) -> str:
        model: Any = self.model
        tokens = model.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)
        answer = tokens[0, inputs["input_ids"].shape[1] :]
        text: str = self.processor.decode(answer, skip_special_tokens=True)
        return text.split(STOP)[0]


def same(written: str, expected: str) -> bool:
    """vLLM leaves out a letter whose bytes end with the last token; else they are one text."""
    start = written.rstrip(HALF_A_LETTER)
    return bool(start) and expected.startswith(start) and len(expected) - len(start) <= 2


def test_the_engine_reads_pictures_and_texts_as_transformers_does(
    found: dict[str, Any], probe: Probe
) -> None:
    reference = Reference(probe.checkpoint)
    asked = found["in process"]
    assert asked["sees_pictures"]
    for seed, written in enumerate(asked["alone"]):
        shown = picture_to_show(png(picture(seed)), IMAGE_PIXELS)
        assert same(written, reference.about(shown))
    assert same(asked["text"][0], reference.text("Hund"))


def test_an_answer_hangs_on_its_own_picture_and_query_alone(found: dict[str, Any]) -> None:
    asked = found["in process"]
    assert len({*asked["alone"], asked["other query"]}) == PICTURES + 1
    assert asked["together"] == asked["alone"] * 2  # no crossing, and greedy is repeatable
    # The engine still knows its pictures after requests that were given up on the way.
    assert found["cancelled"] == found["cancelled alone"] not in asked["alone"]


def test_pictures_are_rated_together_as_transformers_does(
    found: dict[str, Any], probe: Probe
) -> None:
    reference = Reference(probe.checkpoint)
    pixels = IMAGE_PIXELS // PICTURES
    shown = [picture_to_show(png(picture(seed)), pixels) for seed in range(PICTURES)]
    tokens, p = found["in process"]["ratings"][0]
    assert same("".join(tokens).split(STOP)[0], reference.ratings(shown))
    assert all(0 < each <= 1 for each in p)
    assert found["in process"]["ratings"][1][0] != tokens
    for here, there in zip(
        found["in process"]["ratings"], found["endpoint"]["ratings"], strict=True
    ):
        # Many tokens are half a letter, and look the same; a server leaves them out.
        whole = [n for n, token in enumerate(here[0]) if HALF_A_LETTER not in token]
        assert len(whole) > len(here[0]) / 2
        assert [here[0][n] for n in whole] == [there[0][n] for n in whole]
        p = [here[1][n] for n in whole]
        assert p == pytest.approx([there[1][n] for n in whole], abs=1e-3)


def test_vllms_own_server_gives_the_same_answers(found: dict[str, Any]) -> None:
    there, here = found["endpoint"], found["in process"]
    # Sampled answers share the engine's random state, refusals have their own words.
    alike = ["together", "alone", "other query", "text", "marks"]
    assert {key: there[key] for key in alike} == {key: here[key] for key in alike}
    assert there["streamed"][0] == here["streamed"][0]


@pytest.mark.parametrize("way", ["in process", "endpoint"])
def test_samples_and_the_beginnings_of_an_answer(found: dict[str, Any], way: str) -> None:
    asked = found[way]
    answer, *told = asked["streamed"]
    assert answer == told[-1] == asked["alone"][1]
    assert len(told) > 5
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(told))
    assert len(set(asked["samples"])) == 3


@pytest.mark.parametrize("way", ["in process", "endpoint"])
def test_what_cannot_be_answered_says_why_and_the_engine_lives_on(
    found: dict[str, Any], way: str
) -> None:
    asked = found[way]
    assert asked["too long"].startswith(("RewriteFailed: ", "Refused: "))
    assert str(MAX_LEN) in asked["too long"]
    assert asked["stripe"].startswith("PictureError: 3000 x 4 pixels are more than 100 to 1")
    assert asked["broken"].startswith("PictureError: broken picture")
    assert asked["no picture"].startswith("PictureError: not a JPEG, PNG, WebP, AVIF, GIF")
    # Marks that stand for a picture come to nothing in a query, with a picture and without.
    (without,), beside = asked["marks"]
    assert without
    assert beside not in ("", *asked["alone"])


def test_a_picture_takes_the_tokens_of_its_size(
    found: dict[str, Any], architecture: Architecture
) -> None:
    unit = UNIT[architecture]
    for size, tokens in zip(SIZES, found["image tokens"], strict=True):
        shown = picture_to_show(png(picture(0, size)), IMAGE_PIXELS)
        assert tokens == max(1, round(shown.width / unit)) * max(1, round(shown.height / unit))
        assert tokens * unit**2 < 1.1 * IMAGE_PIXELS


def test_the_recipe_for_a_real_model_is_understood(tmp_path: Path) -> None:
    """Parsed, not run: weights of this size come from a hub."""
    in_process, endpoint = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    settings = []
    for number, recipe in enumerate((in_process, endpoint)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(recipe)
        token = config_file.set(file)
        try:
            settings.append(Settings())
        finally:
            config_file.reset(token)
    here = settings[0].model_copy(update={"llm": str(tmp_path)})  # a name would be downloaded
    assert vllm_options(here).image_pixels == settings[0].llm_image_pixels == 28 * 28 * 768
    remote = start_rewriter(settings[1], None)
    assert remote.sees_pictures
    assert not start_rewriter(
        settings[1].model_copy(update={"llm_sees_pictures": False}), None
    ).sees_pictures


@pytest.mark.slow
def test_a_model_that_sees_writes_captions(tmp_path: Path) -> None:
    """One of random weights: its captions find no picture, but each picture has its own."""
    checkpoint = write_checkpoint(tmp_path / "model", "qwen2_5_vl")
    pictures, index = write_pictures(tmp_path / "pictures"), tmp_path / "index"
    grape("index", "build", pictures, "--out", index)
    done = subprocess.run(
        [GRAPE, "data", "from-captions", "--see", "--llm", checkpoint, "--index", index,
         "--languages", "de", "--limit", "4", "--out", tmp_path / "rows.jsonl"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "No caption finds its picture" in done.stderr, done.stderr[-2000:]
    kept = [json.loads(line) for line in (tmp_path / "rows.work.jsonl").read_text().splitlines()]
    captions = [line["answers"][0][0] for line in kept]
    assert len(set(captions)) == 4
