"""What is written about which picture, and which near pictures a change may begin at."""

from collections import Counter
from pathlib import Path

import numpy as np

from models.retriever.image_index import ImageIndex
from tests.support.colours import ColourEncoder
from training.data.captions.drafts import Pictured, drafts_of, near_pictures
from training.data.captions.settings import CaptionSettings
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


def test_a_prompt_names_captions_and_language() -> None:
    drafts = drafts_of(settings(descriptions=0), PICTURES[:2], index_of(PICTURES[:2]))
    prompts = [draft.prompt for draft in drafts]
    assert prompts[0].query == "thing 0 / German"
    assert (
        prompts[0]
        .task.prompt(prompts[0].query)
        .endswith("\nPicture and language: thing 0 / German\nTyped:")
    )
    changes = [draft for draft in drafts if draft.reference]
    assert all("thing 0 / thing 1" in change.prompt.query for change in changes[1:])


def test_a_long_caption_leaves_room_for_the_language() -> None:
    long = [Pictured(f"{number}.png", f"{number} " + "very " * 200) for number in range(2)]
    for draft in drafts_of(settings(), long, index_of(long)):
        prompt = draft.prompt.task.prompt(draft.prompt.query)
        assert prompt.splitlines()[-2].endswith(("/ German", "/ Chinese", "/ English"))
        if draft.reference:
            assert "0 very" in prompt.splitlines()[-2]
            assert "1 very" in prompt.splitlines()[-2]


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
