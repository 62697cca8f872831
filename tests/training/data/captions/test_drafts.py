"""What is written about which picture, and which near pictures a change may begin at."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from models.retriever.image_index import ImageIndex
from tests.support.colours import ColourEncoder
from training.data.captions.drafts import Pictured, drafts_of, near_pictures
from training.data.captions.examples import ENGLISH, TRANSLATED
from training.data.captions.languages import is_in
from training.data.captions.prompts import CHANGES, DESCRIPTIONS, change, translation
from training.data.captions.settings import CaptionSettings
from training.data.demo.names_and_descriptions import gallery
from training.data.splits import split_of

PICTURES = [Pictured(f"{number}.png", f"thing {number}") for number in range(60)]


def settings(**values: object) -> CaptionSettings:
    return CaptionSettings(out=Path("rows.jsonl"), languages=["de", "zh"], **values)  # type: ignore[arg-type]


def index_of(pictures: list[Pictured]) -> ImageIndex:
    """Each picture is a little nearer to the next one than to the one after."""
    angles = np.arange(len(pictures)) / 20
    vectors = np.stack([np.cos(angles), np.sin(angles), 0 * angles, 0 * angles], 1)
    records = [{"caption": picture.caption} for picture in pictures]
    ids = [picture.id for picture in pictures]
    return ImageIndex.build(vectors.astype(np.float32), ids, records, ColourEncoder.fingerprint)


def test_each_picture_has_its_drafts() -> None:
    index = index_of(PICTURES)
    drafts = drafts_of(settings(names=3, descriptions=2, changes=1), PICTURES, index)
    counts = Counter((draft.task, draft.language) for draft in drafts)
    assert counts["multilingual", "de"] == counts["multilingual", "zh"] == 60
    assert counts["long", "en"] == 60
    assert counts["long", "de"] + counts["long", "zh"] == 60
    assert min(counts["long", "de"], counts["long", "zh"]) > 15
    assert sum(counts["composed", code] for code in ("en", "de", "zh")) == 60
    assert drafts_of(settings(names=0, descriptions=0, changes=0), PICTURES, index) == []


def test_names_are_asked_in_their_language_and_the_rest_in_english_first() -> None:
    drafts = drafts_of(settings(descriptions=2), PICTURES[:2], index_of(PICTURES[:2]))
    german = drafts[0].prompt
    assert german.task.prompt(german.query).endswith("\nEnglish: thing 0\nGerman:")
    assert "\nGerman: trauriges Kind\n" in german.task.prompt(german.query)
    assert drafts[0].translated("a name") is None
    for draft in drafts:
        then = draft.translated("something in English")
        assert (then is None) == (draft.task == "multilingual" or draft.language == "en")
        if then:
            assert then.query == "something in English"
    changes = [draft.prompt.query for draft in drafts if draft.reference]
    assert set(changes) <= {"thing 0 / thing 1", "thing 1 / thing 0"}


@pytest.mark.parametrize("code", ["de", "en", "sw"])
def test_a_long_caption_leaves_room_for_the_rest(code: str) -> None:
    task, asked = translation("very " * 200, code)
    question, label = task.prompt(asked).splitlines()[-2:]
    assert (label, question.endswith("/ Swahili")) == {
        "de": ("German:", False), "en": ("Or:", False), "sw": ("Word:", True),
    }[code]  # fmt: skip
    assert len(change("very " * 200, "small " * 200)) <= CHANGES.max_chars
    assert "small" in change("very " * 200, "small / " * 200)


def test_every_dictionary_has_every_word_in_its_language() -> None:
    for code, words in TRANSLATED.items():
        assert len(words) == len(set(words)) == len(ENGLISH)
        assert all(is_in(word, code, list(TRANSLATED)) for word in words), code


@pytest.mark.heavy
def test_no_example_names_a_picture_of_the_demo() -> None:
    names = {name.casefold() for record in gallery() for name in record["names"].values()}
    examples = [*ENGLISH, *(word for words in TRANSLATED.values() for word in words)]
    for task in (DESCRIPTIONS, CHANGES):
        examples += [part for asked, _ in task.examples for part in asked.split(" / ")]
    assert not names & {example.casefold() for example in examples}


def test_near_pictures_are_usable_references() -> None:
    copies = [Pictured("copy.png", "Thing 1"), Pictured("twin.png", "a copy of thing 1")]
    pictures = [*PICTURES[:2], *copies, *PICTURES[2:]]
    vectors = index_of(PICTURES).vectors()
    vectors = np.concatenate([vectors[:2], vectors[1:2], vectors[1:2], vectors[2:]])
    records = [{"caption": picture.caption} for picture in pictures]
    ids = [picture.id for picture in pictures]
    index = ImageIndex.build(vectors, ids, records, ColourEncoder.fingerprint)
    near = near_pictures(pictures, index, 2)
    for picture in pictures:
        assert len(near[picture.id]) == 2
        for reference in near[picture.id]:
            assert reference.id != picture.id
            # Nothing of a held-out picture is trained on.
            assert split_of(picture.id) == "test" or split_of(reference.id) != "test"
    # The same vector, or the same words: no change leads from one to the other.
    assert not {"copy.png", "twin.png"} & {reference.id for reference in near["1.png"]}
