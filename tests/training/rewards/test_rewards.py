"""Rewards: bounded, monotone in the rank, and not won by tricks."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from training.data.demo.names_and_descriptions import english_names
from training.rewards.ranking import Corpus, Ranking
from training.rewards.rewards import REWARDS, Reward, Rollout, is_well_formed
from training.rewards.scorer import Retriever, Scorer
from training.stages.dry_run import weighted

BOUNDS = {
    "rank_linear": (0, 1),
    "rank_log": (0, 1),
    "reciprocal": (0, 1),
    "rank_gain": (-1, 1),
    "margin": (-2, 2),
    "contrastive": (0, 1),
    "similarity": (-1, 1),
    "format": (0, 1),
}
OF_RANK = ("rank_linear", "rank_log", "reciprocal", "rank_gain")
SHIPPED = {"rank_log": 1.0, "format": 0.2}


def rollout(rank: list[int], size: int, completions: list[str] | None = None) -> Rollout:
    count = len(rank)
    ranking = Ranking(
        np.array(rank, float), np.full(count, 0.5), np.full(count, 0.4), np.zeros(count),
        np.full(count, -1.0), size,
    )  # fmt: skip
    return Rollout(completions or ["a dog"] * count, [4] * count, 77, ranking, ranking)


def test_every_reward_is_tested_and_named() -> None:
    assert set(REWARDS) == set(BOUNDS)
    assert all(name == reward.name for name, reward in REWARDS.items())


@pytest.mark.parametrize("reward", REWARDS.values(), ids=lambda r: r.name)
def test_a_reward_survives_a_pickle(reward: Reward) -> None:
    given_ranks = rollout([1, 5, 9], 10)
    again = pickle.loads(pickle.dumps(reward))
    np.testing.assert_array_equal(again(given_ranks), reward(given_ranks))


@given(st.data(), st.integers(1, 10_000))
def test_rank_rewards_fall_with_the_rank_within_their_bounds(data: st.DataObject, n: int) -> None:
    ranks = data.draw(st.lists(st.integers(1, n), min_size=1, max_size=20))
    better = np.argsort(ranks, kind="stable")
    for name in OF_RANK:
        values = REWARDS[name](rollout(ranks, n))
        low, high = BOUNDS[name]
        assert ((values >= low) & (values <= high)).all()
        assert (np.diff(values[better]) <= 0).all()
    linear = REWARDS["rank_linear"](rollout(ranks, n))
    if n > 1:
        np.testing.assert_allclose(linear, (n - np.array(ranks)) / (n - 1))


@given(st.lists(st.text(), min_size=1, max_size=8), st.integers(0, 2**31))
def test_no_string_makes_a_reward_raise_or_leave_its_bounds(texts: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(12, 5)))
    targets = [[int(rng.integers(12))] for _ in texts]
    ranking = Corpus.of(vectors).rank(unit(rng.normal(size=(len(texts), 5))), targets)
    given_texts = Rollout(texts, [len(t) for t in texts], 77, ranking, ranking)
    for name, reward in REWARDS.items():
        values = reward(given_texts)
        low, high = BOUNDS[name]
        assert values.shape == (len(texts),)
        assert ((values >= low - 1e-6) & (values <= high + 1e-6)).all(), name


def unit(rows: "np.ndarray[tuple[int, int], np.dtype[np.float64]]"):  # type: ignore[no-untyped-def]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 2**31))
def test_the_order_of_the_corpus_changes_no_reward(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, texts = unit(rng.normal(size=(30, 6))), unit(rng.normal(size=(4, 6)))
    targets = [rng.choice(30, 3, replace=False).tolist() for _ in range(4)]
    shuffled = rng.permutation(30)
    place = np.argsort(shuffled)
    before = Corpus.of(vectors).rank(texts, targets)
    after = Corpus.of(vectors[shuffled]).rank(texts, [place[t].tolist() for t in targets])
    for name, reward in REWARDS.items():
        one = rollout([1] * 4, 30)._replace(rewritten=before, original=before)
        two = one._replace(rewritten=after, original=after)
        np.testing.assert_allclose(reward(one), reward(two), atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("completion", "good"),
    [
        (" a red dragon", True),
        (" a red dragon\n", True),
        ("person, smiling, with a hat", True),
        ("", False),
        ("  \n ", False),
        ("!!!", False),
        (" dragon\nWord: cat", False),
        (" Word: dragon", False),
        ("English: English: dragon", False),
        ("<start_of_turn> dragon", False),
        ("dragon dragon dragon", False),
        ("cat, dog, horse, dragon, snake", False),
        ("猫、犬、馬、竜、蛇", False),
        (" ".join(f"word{n}" for n in range(200)), False),
    ],
)
def test_format_knows_the_shape_of_a_caption(completion: str, good: bool) -> None:
    assert is_well_formed(completion) is good


@pytest.mark.heavy
def test_every_name_of_the_gallery_has_the_shape_of_a_caption() -> None:
    """ "smiling face with smiling eyes" says two words twice."""
    assert [name for name in english_names().values() if not is_well_formed(name)] == []


def test_what_the_encoder_would_cut_is_out_of_shape() -> None:
    long = replace_tokens(rollout([1, 1], 5), [77, 78])
    assert REWARDS["format"](long).tolist() == [1, 0]


def replace_tokens(given_rollout: Rollout, tokens: list[int]) -> Rollout:
    return given_rollout._replace(clip_tokens=tokens)


@pytest.fixture(scope="module")
def scorer(encoder: ClipEncoder, demo_index: ImageIndex) -> Scorer:
    return Scorer(Retriever(encoder, demo_index, Corpus.of(demo_index.vectors())))


TRICKS = {
    "caption list": lambda name, others: ", ".join([*others, name]),
    "filler": lambda name, others: (
        f"well you know the kind of thing that is like some {name} or so"
    ),
    "template": lambda name, others: f"English: {name}",
    "200 words": lambda name, others: " ".join([name, *(f"{o} and" for o in others * 50)]),
    "repetition": lambda name, others: f"{name} {name} {name}",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_score_below_honest_rewrites(
    scorer: Scorer, demo_index: ImageIndex, trick: str
) -> None:
    """On the demo, with the rewards that the adapter is trained with."""
    places = np.random.default_rng(0).choice(len(demo_index), 60, replace=False).tolist()
    names = [demo_index.metadata[p]["name"] for p in places]
    ids = [(demo_index.ids[p],) for p in places]
    tricked = [
        TRICKS[trick](name, [names[(n + d) % 60] for d in (1, 2, 3)])
        for n, name in enumerate(names)
    ]
    honest = weighted(scorer.rollout([f" {n}" for n in names], names, ids), SHIPPED)
    cheated = weighted(scorer.rollout([f" {t}" for t in tricked], names, ids), SHIPPED)
    assert (cheated <= honest + 1e-9).mean() >= 0.95
    assert cheated.mean() < honest.mean() - 0.05


def test_another_language_scores_below_english(scorer: Scorer, demo_index: ImageIndex) -> None:
    places = range(0, 600, 10)
    ids = [(demo_index.ids[p],) for p in places]
    english = [demo_index.metadata[p]["name"] for p in places]
    for language in ("de", "zh", "ru"):
        foreign = [demo_index.metadata[p]["names"][language] for p in places]
        honest = weighted(scorer.rollout(english, foreign, ids), SHIPPED)
        copied = weighted(scorer.rollout(foreign, foreign, ids), SHIPPED)
        assert copied.mean() < honest.mean() - 0.2
