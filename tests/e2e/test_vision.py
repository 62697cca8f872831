"""Queries about a picture by a vision LLM: real architectures in a real engine, random weights."""

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from models.tasks import STOP
from models.vision import SEEN, messages, picture_to_show
from tests.e2e.vision_checkpoint import Architecture, write_checkpoint
from tests.e2e.vision_probe import IMAGE_PIXELS, MAX_LEN, PICTURES, QUERY, SIZES, picture, png

ROOT = Path(__file__).parent.parent.parent
UNIT: dict[Architecture, int] = {"qwen2_5_vl": 28, "qwen3_vl": 32}  # pixels that one token spans


@pytest.fixture(scope="module", params=UNIT)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    chosen: Architecture = request.param
    return chosen


@pytest.fixture(scope="module")
def checkpoint(architecture: Architecture, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp(architecture), architecture)


@pytest.fixture(scope="module")
def found(checkpoint: Path) -> dict[str, Any]:
    """All that the engine answered, see tests/e2e/vision_probe.py."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.vision_probe", str(checkpoint)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def answers_of_transformers(checkpoint: Path) -> list[str]:
    """The same prompts by the library that the checkpoint's makers publish it for."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)
    answers = []
    for seed in range(PICTURES):
        image = picture_to_show(png(picture(seed)), IMAGE_PIXELS)
        prompt = processor.apply_chat_template(
            messages({"type": "image", "image": image}, QUERY),
            add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
        )  # fmt: skip
        written = model.generate(**prompt, max_new_tokens=SEEN.max_tokens, do_sample=False)
        text = processor.decode(
            written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True
        )
        answers.append(text.split(STOP)[0])
    return answers


def test_the_engine_reads_the_picture_as_transformers_does(
    found: dict[str, Any], checkpoint: Path
) -> None:
    # vLLM leaves out half a letter at the end, transformers marks it.
    expected = [
        answer.rstrip("\N{REPLACEMENT CHARACTER}") for answer in answers_of_transformers(checkpoint)
    ]
    written = [
        answer.rstrip("\N{REPLACEMENT CHARACTER}") for answer in found["in process"]["alone"]
    ]
    assert written == expected
    assert found["in process"]["sees_pictures"]


def test_an_answer_hangs_on_its_own_picture_and_query_alone(found: dict[str, Any]) -> None:
    asked = found["in process"]
    assert len({*asked["alone"], asked["other query"]}) == PICTURES + 1
    assert asked["together"] == asked["alone"] * 2  # no crossing, and greedy is repeatable
    # The engine still knows its pictures after requests that were given up on the way.
    assert found["cancelled"] == found["cancelled alone"] not in asked["alone"]


def test_vllms_own_server_gives_the_same_answers(found: dict[str, Any]) -> None:
    there, here = found["endpoint"], found["in process"]
    # Sampled answers share the engine's random state, refusals have their own words.
    same = ["together", "alone", "other query", "streamed", "text", "marks"]
    assert {key: there[key] for key in same} == {key: here[key] for key in same}


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
    assert asked["too long"].startswith("RewriteFailed: ")
    assert str(MAX_LEN) in asked["too long"]
    assert asked["stripe"].startswith("RewriteFailed: ")
    assert asked["broken"].startswith("PictureError: broken picture")
    assert asked["no picture"] == "PictureError: not a JPEG, PNG, WebP, GIF or SVG picture"
    # Marks that stand for a picture come to nothing in a query, with a picture and without.
    (without,), beside = asked["marks"]
    assert without != asked["text"][0]
    assert beside not in ("", *asked["alone"])


def test_a_picture_takes_the_tokens_of_its_size(
    found: dict[str, Any], architecture: Architecture
) -> None:
    unit = UNIT[architecture]
    for size, tokens in zip(SIZES, found["image tokens"], strict=True):
        shown = picture_to_show(png(picture(0, size)), IMAGE_PIXELS)
        assert tokens == max(1, round(shown.width / unit)) * max(1, round(shown.height / unit))
        assert tokens * unit**2 < 1.1 * IMAGE_PIXELS
