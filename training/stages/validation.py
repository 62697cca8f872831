"""What a policy is worth on held-out queries: the likelihood of its mixture of rewrites."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from models.rewriter.protocol import MOST_REWRITES
from models.rewriter.tasks import STOP, Task
from training.data.rows import Row
from training.rewards.objectives import mixture_weights
from training.rewards.scorer import Scorer, recall_at, searched
from training.stages.decoding import Answer, Decoding
from training.stages.language_model import Tokenizer
from training.stages.rollouts import likeliest_answers

REWRITES = MOST_REWRITES  # of a query, in its mixture
_BATCH = 32  # queries


class Validation(NamedTuple):
    """One evaluation on the fixed validation sample."""

    step: int
    log_likelihood: float  # mean log p(target | query) of the mixture of rewrites
    r_at_1: float  # this and all below: of the greedy rewrite
    r_at_10: float
    mean_rank: float
    target: float  # mean cosine to the target, to random pictures, and their difference
    random: float
    gap: float
    averaged: int = 1  # adapters, of which this is the mean
    log_likelihoods: Sequence[float] = ()  # of each query

    def numbers(self) -> dict[str, float]:
        """All that is one number, except the step."""
        return {k: v for k, v in self._asdict().items() if k not in ("step", "log_likelihoods")}


class Validator:
    """Evaluates policies on a fixed sample of rows.

    The mixture holds the most probable rewrites, weighted by their probabilities. Serving searches
    with the same ones (design, 3.6), and the query as typed with them.

    Args:
        scorer: ranks at the temperature of the mixture.
        stops: ids of the tokens that end a rewrite.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        tasks: Mapping[str, Task],
        scorer: Scorer,
        tokenizer: Tokenizer,
        stops: Sequence[int],
    ) -> None:
        self._rows = rows
        self._tasks = tasks
        self._scorer = scorer
        self._tokenizer: Any = tokenizer
        self._stops = tuple(stops)

    def __call__(self, model: Any) -> Validation:
        """The result of a causal language model, with step 0."""
        mixtures = self.mixtures(model)
        written = self._tokenizer.batch_decode(
            [answer.ids for answers in mixtures for answer in answers], skip_special_tokens=True
        )
        rows = [row for row in self._rows for _ in range(REWRITES)]
        texts = searched([text.split(STOP)[0] for text in written], [row.query for row in rows])
        ranking = self._scorer.rank(texts, [row.targets for row in rows])
        weights = mixture_weights(
            np.array([[answer.log_probability for answer in answers] for answers in mixtures])
        )
        found = np.exp(ranking.log_probability).reshape(weights.shape)
        greedy = ranking.take(range(0, len(rows), REWRITES))
        log_likelihoods = np.log((weights * found).sum(1))
        return Validation(
            step=0,
            log_likelihood=float(log_likelihoods.mean()),
            r_at_1=recall_at(1, greedy),
            r_at_10=recall_at(10, greedy),
            mean_rank=float(greedy.rank.mean()),
            target=float(greedy.positive.mean()),
            random=float(greedy.random.mean()),
            gap=float((greedy.positive - greedy.random).mean()),
            log_likelihoods=log_likelihoods.tolist(),
        )

    def mixtures(self, model: Any) -> list[list[Answer]]:
        """The rewrites of each row, the greedy one first."""
        was_training = model.training
        model.eval()
        prompts = [self._tasks[row.task].prompt(row.asked) for row in self._rows]
        ids = self._tokenizer(prompts)["input_ids"]
        # A batch is padded to its longest prompt.
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        mixtures: list[list[Answer]] = [[] for _ in ids]
        for start in range(0, len(order), _BATCH):
            places = order[start : start + _BATCH]
            most = max(self._tasks[self._rows[place].task].max_tokens for place in places)
            decoding = Decoding(most, self._stops, self._tokenizer.pad_token_id)
            found = likeliest_answers(model, [ids[p] for p in places], REWRITES, decoding)
            for place, answers in zip(places, found, strict=True):
                mixtures[place] = answers
        model.train(was_training)
        return mixtures
