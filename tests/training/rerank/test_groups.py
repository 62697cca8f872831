"""Candidates in groups: prompts, the teacher's ratings, and how answers are read."""

import math

import pytest

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.tasks import GROUP, RERANK
from training.data.rows import Row
from training.rerank.candidates import Listed, candidates_of
from training.rerank.groups import answer, in_groups, read_answer, teacher_ratings
from training.rewards.ranking import Corpus
from training.rewards.scorer import Retriever

GUITAR = Row(query="ギター", targets=("1F3B8",), language="ja", english="guitar")
TWENTY = Listed(GUITAR, tuple(f"thing {n}" for n in range(20)))


def test_every_candidate_is_shown_once() -> None:
    grouped = in_groups(RERANK.short, TWENTY, 0)
    assert [len(group.places) for group in grouped.groups] == [GROUP] * 4
    assert sorted(place for group in grouped.groups for place in group.places) == list(range(20))
    for group in grouped.groups:
        for number, place in enumerate(group.places, 1):
            assert f"/ {number} thing {place}" in group.prompt


def test_the_right_one_has_no_place_of_its_own() -> None:
    seen = set()
    for seed in range(200):
        grouped = in_groups(RERANK.short, TWENTY, seed)
        (at,) = (
            (n, group.places.index(0))
            for n, group in enumerate(grouped.groups)
            if 0 in group.places
        )
        seen.add(at)
    assert len(seen) == 20
    assert in_groups(RERANK.short, TWENTY, 7) == in_groups(RERANK.short, TWENTY, 7)


def test_a_teacher_rates_by_likeness(encoder: ClipEncoder, demo_index: ImageIndex) -> None:
    retriever = Retriever(encoder, demo_index, Corpus.of(demo_index.vectors()))
    (listed,) = candidates_of(retriever, {GUITAR: ["violin", "hamburger"]}, 20)
    ((right, *wrong),) = teacher_ratings(retriever, [listed])
    assert right == 9
    assert min(wrong) == 0
    assert max(wrong) <= 6
    rated = dict(zip(listed.texts[1:], wrong, strict=True))
    assert rated["violin"] > rated["hamburger"]


def test_a_teacher_rates_right_captions_by_their_grades(
    encoder: ClipEncoder, demo_index: ImageIndex
) -> None:
    retriever = Retriever(encoder, demo_index, Corpus.of(demo_index.vectors()))
    (listed,) = candidates_of(retriever, {GUITAR: ["violin", "hamburger"]}, 6)
    ratings = {
        grades: teacher_ratings(retriever, [listed._replace(grades=grades)])[0]
        for grades in ((1, 1), (2, 1), (4, 3, 1))
    }
    assert ratings[1, 1][:2] == (9, 9)
    assert ratings[2, 1][:2] == (9, 7)
    assert ratings[4, 3, 1][:3] == (9, 8, 7)
    assert all(max(own[len(grades) :]) <= 6 for grades, own in ratings.items())


@pytest.mark.parametrize(
    ("text", "values", "exact"),
    [
        (" 9 3 0", [9, 3, 0], True),
        (answer((1, 2, 3)), [1, 2, 3], True),
        (" 9 3", [9, 3, None], False),
        ("9 3 0 6", [9, 3, 0], False),
        ("nine, 3", [3, None, None], False),
        ("", [None, None, None], False),
        ("١ ٢ ٣", [None, None, None], False),
        ("12 3", [1, 2, 3], False),
    ],
)
def test_answers_are_read(text: str, values: list[float | None], exact: bool) -> None:
    read, well_formed = read_answer(text, 3)
    assert [None if math.isnan(value) else value for value in read] == values
    assert well_formed is exact
