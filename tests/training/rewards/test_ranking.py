"""The rank: compared with a plain computation; ties, several targets, and the pool's bias."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.retriever.image_index import ImageIndex
from models.retriever.manifest import EncoderFingerprint
from training.rewards.ranking import TEMPERATURE, Corpus, Ranking
from training.rewards.sampled_ranking import Pool

Array = npt.NDArray[np.float32]


def unit(rng: np.random.Generator, count: int, dim: int) -> Array:
    rows = rng.normal(size=(count, dim))
    units: Array = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return units


def plainly(vectors: Array, texts: Array, targets: list[list[int]]) -> Ranking:
    """Literally what the docstring says, one text at a time."""
    rows = []
    for text, wanted in zip(texts.astype(float), targets, strict=True):
        scores = vectors.astype(float) @ text
        others = np.delete(scores, wanted)
        best = scores[wanted].max()
        odds = np.exp((others - best) / TEMPERATURE).sum()
        hardest, mean = (others.max(), others.mean()) if len(others) else (-1.0, 0.0)
        rows.append((1 + (others >= best - 1e-6).sum(), best, hardest, mean, -np.log1p(odds)))
    columns = [np.array(column, float) for column in zip(*rows, strict=True)]
    rank, positive, hardest_other, random, log_probability = columns
    return Ranking(rank, positive, hardest_other, random, log_probability, len(vectors))


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.integers(1, 4))
def test_ranks_are_what_a_plain_computation_gives(seed: int, size: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    vectors, texts = unit(rng, size, 8), unit(rng, 5, 8)
    targets = [
        rng.choice(size, int(rng.integers(1, min(most, size) + 1)), replace=False).tolist()
        for _ in range(5)
    ]
    found = Corpus.of(vectors).rank(texts, targets)
    expected = plainly(vectors, texts, targets)
    for name in Ranking._fields:
        fast, slow = getattr(found, name), getattr(expected, name)
        if name == "log_probability":  # smaller than e to the -75 is the same as 0
            fast, slow = np.maximum(fast, -75), np.maximum(slow, -75)
        np.testing.assert_allclose(fast, slow, atol=2e-4, err_msg=name)


def test_ties_count_against() -> None:
    vectors = np.repeat(unit(np.random.default_rng(0), 1, 8), 7, axis=0)
    assert Corpus.of(vectors).rank(vectors[:1], [[3]]).rank.tolist() == [7]
    assert Corpus.of(vectors).rank(vectors[:1], [[3, 5]]).rank.tolist() == [6]


def test_the_best_of_several_targets_counts() -> None:
    rng = np.random.default_rng(1)
    vectors = unit(rng, 50, 16)
    corpus = Corpus.of(vectors)
    assert corpus.rank(vectors[7:8], [[30, 7, 2]]).rank.tolist() == [1]
    both = corpus.rank(vectors[7:8], [[30, 2]]).rank
    each = [corpus.rank(vectors[7:8], [[t]]).rank for t in (30, 2)]
    assert both <= min(each)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    vectors, texts = unit(rng, 500, 8), unit(rng, 6, 8)
    targets = [[int(t)] for t in rng.integers(0, 500, 6)]
    whole = Corpus.of(vectors).rank(texts, targets)
    monkeypatch.setattr("training.rewards.ranking._CHUNK_SCORES", 64)
    parts = Corpus.of(vectors).rank(texts, targets)
    for name in Ranking._fields:
        np.testing.assert_allclose(getattr(whole, name), getattr(parts, name), rtol=1e-5)


def index_of(vectors: Array) -> ImageIndex:
    fingerprint = EncoderFingerprint(
        name="x", pretrained=None, weights_sha256="0", preprocess_sha256="0",
        tokenizer_sha256="0", dim=vectors.shape[1],
    )  # fmt: skip
    ids = [str(n) for n in range(len(vectors))]
    return ImageIndex.build(vectors, ids, [{} for _ in ids], fingerprint)


@pytest.mark.heavy
def test_a_pool_estimates_the_exact_rank_without_bias() -> None:
    """Mean over many draws: within three standard errors of the exact rank for nearly all texts."""
    rng = np.random.default_rng(3)
    vectors = unit(rng, 4000, 16)
    wanted = rng.choice(4000, 40, replace=False)
    texts = vectors[wanted] + 0.6 * unit(rng, 40, 16)
    texts = (texts / np.linalg.norm(texts, axis=1, keepdims=True)).astype(np.float32)
    targets = [[int(t)] for t in wanted]
    exact = Corpus.of(vectors).rank(texts, targets)
    pool = Pool(index_of(vectors), hard=10, random=400, seed=0)
    drawn = np.array([pool.rank(texts, targets).rank for _ in range(200)])
    error = drawn.std(0) / np.sqrt(len(drawn)) + 1e-9
    assert (np.abs(drawn.mean(0) - exact.rank) <= 3 * error + 0.5).mean() >= 0.95
    assert abs(drawn.mean() / exact.rank.mean() - 1) < 0.02
    near_the_top = exact.rank <= 5
    assert near_the_top.any()
    assert np.abs(drawn.mean(0) - exact.rank)[near_the_top].max() < 2


def test_a_pool_as_large_as_the_corpus_is_exact() -> None:
    rng = np.random.default_rng(4)
    vectors, texts = unit(rng, 300, 8), unit(rng, 5, 8)
    targets = [[int(t)] for t in rng.integers(0, 300, 5)]
    pooled = Pool(index_of(vectors), hard=20, random=300, seed=0).rank(texts, targets)
    exact = Corpus.of(vectors).rank(texts, targets)
    np.testing.assert_array_equal(pooled.rank, exact.rank)
    np.testing.assert_allclose(pooled.log_probability, exact.log_probability, atol=1e-6)
