"""What a reranker learns to tell apart, on the demo's gallery."""

import numpy as np
import pytest

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.search.rerank import text_of
from training.data.rows import Row
from training.rerank.candidates import Listed, best_rank, candidates_of, told_apart
from training.rewards.ranking import Corpus
from training.rewards.scorer import Retriever

GUITAR = Row(query="ギター", targets=("1F3B8",), language="ja", english="guitar")


@pytest.fixture(scope="module")
def retriever(encoder: ClipEncoder, demo_index: ImageIndex) -> Retriever:
    return Retriever(encoder, demo_index, Corpus.of(demo_index.vectors()))


def captions(index: ImageIndex) -> dict[str, str | None]:
    return {name: text_of(index.metadata[place]) for place, name in enumerate(index.ids)}


def test_the_right_caption_is_the_first_of_what_is_found(retriever: Retriever) -> None:
    (listed,) = candidates_of(retriever, {GUITAR: ["violin"]}, 12)
    assert listed.texts[0] == captions(retriever.index)["1F3B8"]
    assert len(listed.texts) == len(set(listed.texts)) == 12
    assert "violin" in listed.texts[1:4]


def test_pictures_that_are_left_out_are_no_candidates(retriever: Retriever) -> None:
    names = captions(retriever.index)
    (violin,) = (name for name, caption in names.items() if caption == "violin")
    (listed,) = candidates_of(retriever, {GUITAR: ["violin"]}, 12, {violin})
    assert "violin" not in listed.texts
    assert len(listed.texts) == 12


def test_other_right_pictures_are_no_candidates(retriever: Retriever) -> None:
    names = captions(retriever.index)
    (violin,) = (name for name, caption in names.items() if caption == "violin")
    both = Row(query="楽器", targets=("1F3B8", violin), language="ja")
    (listed,) = candidates_of(retriever, {both: ["violin"]}, 12)
    assert not {names["1F3B8"], "violin"} & set(listed.texts[1:])


def test_without_rows_there_is_nothing(retriever: Retriever) -> None:
    assert candidates_of(retriever, {}, 12) == []


def test_some_are_the_first_found_and_some_are_drawn() -> None:
    listed = Listed(GUITAR, tuple(map(str, range(20))))
    chosen = told_apart(listed, 7, seed=0)
    assert chosen.texts[:4] == ("0", "1", "2", "3")
    assert len(set(chosen.texts)) == 7
    assert chosen == told_apart(listed, 7, seed=0)
    assert chosen != told_apart(listed, 7, seed=1)


def test_few_candidates_are_all_taken() -> None:
    listed = Listed(GUITAR, ("0", "1", "2"))
    assert set(told_apart(listed, 7, seed=0).texts) == {"0", "1", "2"}


def test_graded_captions_come_first_the_most_relevant_before_the_others(
    retriever: Retriever,
) -> None:
    names = captions(retriever.index)
    (violin,) = (name for name, caption in names.items() if caption == "violin")
    graded = Row(query="楽器", targets=(violin, "1F3B8"), grades=(1, 3), language="ja")
    (listed,) = candidates_of(retriever, {graded: ["violin"]}, 12)
    assert listed.texts[:2] == (names["1F3B8"], "violin")
    assert listed.relevance.tolist() == [3, 1] + [0] * 10


def test_a_wrong_candidate_stays_however_many_are_right(retriever: Retriever) -> None:
    pictures = tuple(list(dict.fromkeys(retriever.index.ids))[:8])
    graded = Row(query="楽器", targets=pictures, grades=(2,) * 8, language="ja")
    (listed,) = candidates_of(retriever, {graded: ["violin"]}, 4)
    assert listed.relevance.tolist() == [2, 2, 2, 0]
    chosen = told_apart(Listed(GUITAR, tuple(map(str, range(9))), (3, 2, 2, 1)), 4, seed=0)
    assert chosen.texts[:3] == ("0", "1", "2")
    assert chosen.grades == (3, 2, 2)
    assert len(set(chosen.texts)) == 4


def test_the_best_right_caption_counts_and_ties_against_it() -> None:
    assert best_rank(np.array([1.0, 5.0, 6.0, 5.0, 0.0]), 2) == 3
    assert best_rank(np.array([-np.inf, -np.inf]), 1) == 2
