"""What TRL gets from an objective, and what a validation measures, against plain sums."""

from typing import Any

import numpy as np
import pytest

from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.rewriter.tasks import TASKS
from tests.support.tiny_gemma import NEWLINE, PAD, tiny_gemma
from training.data.rows import Row
from training.rewards.objectives import (
    mixture_credit,
    most_varied,
    pass_at_k_credit,
    relative_credit,
    served_credit,
)
from training.rewards.ranking import Corpus
from training.rewards.scorer import Retriever, Scorer, of_mixture
from training.settings import TrainSettings
from training.stages.batch_rewards import batch_rewards
from training.stages.decoding import Decoding
from training.stages.rollouts import likeliest_answers
from training.stages.validation import REWRITES, Validator

TAU = 0.05
COMPLETIONS = [" guitar", " drum", " guitar", " wall", " horse", " a horse", " cow", " cow"]
QUERIES = ["ギター"] * 4 + ["caballo"] * 4
TARGETS = [["1F3B8"]] * 4 + [["1F40E"]] * 4


@pytest.fixture(scope="module")
def retriever(encoder: ClipEncoder, demo_index: ImageIndex) -> Retriever:
    return Retriever(encoder, demo_index, Corpus.of(demo_index.vectors()))


def probabilities(
    retriever: Retriever, texts: list[str], targets: list[list[str]], left_out: set[str]
) -> Any:
    """Of the target, in the softmax over the pictures that are not left out."""
    index = retriever.index
    kept = [p for p in range(len(index)) if index.ids[p] not in left_out]
    cosines = retriever.encoder.encode_texts(texts) @ index.vectors()[kept].T
    given = np.exp(cosines / TAU)
    given /= given.sum(1, keepdims=True)
    places = [kept.index(index.position(right) or 0) for (right,) in targets]
    return given[range(len(texts)), places].astype(np.float64)


def called(
    retriever: Retriever,
    left_out: set[str],
    log_probability: list[float] | None = None,
    **settings: Any,
) -> tuple[Any, Any, Any]:
    """Values of each function by name, their weights, and what they logged."""
    asked = TrainSettings(group_size=4, prompts_per_step=2, micro_batch=8, **settings)
    rewards = batch_rewards(asked, Scorer(of_mixture(retriever, TAU, left_out)))
    logged: dict[str, float] = {}
    values = {
        function.__name__: function(
            completions=COMPLETIONS,
            query=QUERIES,
            targets=TARGETS,
            log_metric=logged.__setitem__,
            log_probability=log_probability,
        )
        for function in rewards.functions
    }
    weights = dict(zip(values, rewards.weights, strict=True))
    return values, weights, logged


def test_the_mixture_is_rewarded_by_its_likelihood_among_the_pictures(retriever: Retriever) -> None:
    left_out = set(retriever.index.ids[5:900]) - {"1F3B8", "1F40E"}
    values, weights, logged = called(retriever, left_out, objective="mixture")
    given = probabilities(retriever, COMPLETIONS, TARGETS, left_out).reshape(2, 4)
    assert values["credit"] == pytest.approx(mixture_credit(given).ravel(), rel=1e-3)
    assert weights == {"rank_log": 0, "format": 0, "credit": 1}
    assert logged["likelihood/train"] == pytest.approx(np.log(given.mean(1)).mean(), abs=1e-3)
    everything, _, _ = called(retriever, set(), objective="mixture")
    assert everything["credit"] != pytest.approx(values["credit"], rel=1e-3)


def test_the_likeliest_rewrites_are_rewarded_by_what_is_served(retriever: Retriever) -> None:
    logs = [-0.5, -1.5, -3.0, -3.1, -2.0, -0.7, -4.0, -1.4]
    values, _, logged = called(retriever, set(), logs, objective="mixture", groups="likeliest")
    given = probabilities(retriever, COMPLETIONS, TARGETS, set()).reshape(2, 4)
    by_group = np.array(logs).reshape(2, 4)
    assert values["credit"] == pytest.approx(served_credit(given, by_group).ravel(), abs=1e-3)
    weights = np.exp(by_group) / np.exp(by_group).sum(1, keepdims=True)
    expected = np.log((weights * given).sum(1)).mean()
    assert logged["likelihood/train"] == pytest.approx(expected, abs=1e-3)


def test_other_objectives_credit_the_weighted_sum_that_rank_is(retriever: Retriever) -> None:
    kept: dict[str, Any] = {"rewards": {"rank_log": 1.0, "format": 0.5}}
    plain, weights, logged = called(retriever, set(), objective="rank", **kept)
    assert weights == {"rank_log": 1, "format": 0.5}
    assert logged["rank/mean"] >= 1
    total = np.array(plain["rank_log"]) + 0.5 * np.array(plain["format"])
    values, weights, _ = called(retriever, set(), objective="pass_at_k", pass_k=2, **kept)
    expected = pass_at_k_credit(total.reshape(2, 4), 2).ravel()
    assert values["credit"] == pytest.approx(expected)
    assert weights == {"rank_log": 0, "format": 0, "credit": 1}
    values, weights, _ = called(retriever, set(), objective="relative", **kept)
    assert values["credit"] == pytest.approx(relative_credit(total.reshape(2, 4)).ravel())
    values, weights, _ = called(retriever, set(), objective="rank", cut_rank=1, **kept)
    first = np.array(plain["rank_log"]) == 1
    assert values["credit"] == pytest.approx(np.where(first, total, 0))
    assert 0 < first.sum() < len(first)
    values, weights, _ = called(retriever, set(), objective="rank", learn_from=2, **kept)
    assert values["credit"] == pytest.approx(most_varied(total.reshape(2, 4), 2).ravel())
    assert weights == {"rank_log": 0, "format": 0, "credit": 1}


class Words:
    """A tokenizer whose token n is the n-th picture name, and 5 a newline."""

    pad_token_id = PAD
    words = ("guitar", "drum", "horse", "cow", "door", "car", "bus", "cat", "dog", "key")

    def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
        return {"input_ids": [[7, 8 + len(text) % 5, 9] for text in texts]}

    def batch_decode(self, ids: list[list[int]], skip_special_tokens: bool) -> list[str]:
        return [" ".join("\n" if i == NEWLINE else self.words[i % 10] for i in row) for row in ids]


def test_a_validation_is_the_likelihood_of_the_weighted_mixture(retriever: Retriever) -> None:
    rows = [
        Row(query="ギター", targets=("1F3B8",), language="ja"),
        Row(query="un caballo", targets=("1F40E",), language="es"),
    ]
    model = tiny_gemma()
    tokenizer: Any = Words()
    scorer = Scorer(of_mixture(retriever, TAU))
    validator = Validator(rows, TASKS, scorer, tokenizer, (NEWLINE,))
    seen = validator(model)
    logs, greedy = [], []
    for row in rows:
        task = TASKS["multilingual"]
        ids = tokenizer([task.prompt(row.asked)])["input_ids"]
        decoding = Decoding(task.max_tokens, (NEWLINE,), PAD)
        (answers,) = likeliest_answers(model, ids, REWRITES, decoding)
        texts = [
            text.split("\n")[0].strip() or row.query
            for text in tokenizer.batch_decode([a.ids for a in answers], True)
        ]
        weights = np.exp([a.log_probability for a in answers])
        given = probabilities(retriever, texts, [list(row.targets)] * len(texts), set())
        logs.append(np.log((weights / weights.sum()) @ given))
        greedy.append(texts[0])
    assert seen.log_likelihood == pytest.approx(np.mean(logs), abs=1e-3)
    ranking = Scorer(retriever).rank(greedy, [row.targets for row in rows])
    assert seen.mean_rank == ranking.rank.mean()
