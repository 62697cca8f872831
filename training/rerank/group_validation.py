"""What a group reranker is worth on held-out queries, by the ratings that it is served with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax, logsumexp

from models.rewriter.ratings import parse_ratings
from models.search.rerank import ratings_of
from training.rerank.candidates import best_rank
from training.rerank.groups import Grouped
from training.rewards.ranking import Floats
from training.stages.language_model import Tokenizer
from training.stages.validation import Validation

_BATCH = 64  # prompts
_LEAST = -1.0  # rating of a candidate that has none


class GroupValidator:
    """Evaluates policies on a fixed sample of grouped candidates.

    ``log_likelihood`` is log p(right candidates), where p is the softmax of the ratings. Of
    :class:`Validation` the similarities are mean ratings: of the best right candidate, of the wrong
    ones, and their difference.

    Args:
        max_tokens: of an answer.
        stops: ids of the tokens that end an answer.
    """

    def __init__(
        self,
        queries: Sequence[Grouped],
        tokenizer: Tokenizer,
        max_tokens: int,
        stops: Sequence[int],
    ) -> None:
        self._queries = queries
        self._tokenizer: Any = tokenizer
        self._max_tokens = max_tokens
        self._stops = list(stops)
        words = [str(tokenizer.decode([n])).strip() for n in range(len(tokenizer))]
        self._digits = {n: word for n, word in enumerate(words) if word in set("0123456789")}

    def __call__(self, model: Any) -> Validation:
        """The result of a causal language model, with step 0."""
        ratings = self.ratings(model)
        counts = [len(query.listed.grades) for query in self._queries]
        rated = list(zip(ratings, counts, strict=True))
        logs = np.array([logsumexp(log_softmax(own)[:right]) for own, right in rated])
        ranks = np.array([best_rank(own, right) for own, right in rated])
        right = float(np.mean([own[:right].max() for own, right in rated]))
        others = float(np.mean([own[right:].mean() for own, right in rated]))
        return Validation(
            step=0,
            log_likelihood=float(logs.mean()),
            r_at_1=float(np.mean(ranks == 1)),
            r_at_10=float(np.mean(ranks <= 10)),
            mean_rank=float(ranks.mean()),
            target=right,
            random=others,
            gap=right - others,
            log_likelihoods=logs.tolist(),
        )

    def ratings(self, model: Any) -> list[Floats]:
        """Of each query's candidates, the right ones' first."""
        was_training = model.training
        model.eval()
        groups = [(query, group) for query in self._queries for group in query.groups]
        found: list[list[float | None]] = [[] for _ in groups]
        order = sorted(range(len(groups)), key=lambda n: len(groups[n][1].prompt))
        for start in range(0, len(order), _BATCH):
            numbers = order[start : start + _BATCH]
            prompts = [groups[n][1].prompt for n in numbers]
            counts = [len(groups[n][1].places) for n in numbers]
            for n, ratings in zip(numbers, self._rated(model, prompts, counts), strict=True):
                found[n] = ratings
        model.train(was_training)
        rated, start = [], 0
        for query in self._queries:
            places = [group.places for group in query.groups]
            own = found[start : start + len(places)]
            start += len(places)
            values = ratings_of(len(query.listed.texts), places, own)
            rated.append(np.array([_LEAST if value is None else value for value in values]))
        return rated

    @torch.inference_mode()
    def _rated(
        self, model: Any, prompts: Sequence[str], counts: Sequence[int]
    ) -> list[list[float | None]]:
        """The ratings of each prompt's candidates, as serving reads them off the tokens."""
        batch = self._tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
        written = model.generate(
            **batch,
            max_new_tokens=self._max_tokens,
            do_sample=False,
            eos_token_id=self._stops,
            pad_token_id=self._tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=True,
            top_p=None,
            top_k=None,
        )
        tokens = written.sequences[:, batch.input_ids.shape[1] :]
        ids = list(self._digits)
        # [prompts, tokens, digits]
        shares = torch.stack([logits[:, ids].float() for logits in written.logits], 1).softmax(2)
        rated = []
        for row, own, count in zip(tokens.tolist(), shares.tolist(), counts, strict=True):
            ends = [place for place, token in enumerate(row) if token in self._stops]
            end = ends[0] if ends else len(row)
            words = [self._tokenizer.decode([token]) for token in row[:end]]
            likely = [_by_digit(self._digits.values(), p) for p in own[:end]]
            rated.append(parse_ratings(words, likely, count))
        return rated


def _by_digit(digits: Any, shares: Sequence[float]) -> dict[str, float]:
    total: dict[str, float] = {}
    for digit, share in zip(digits, shares, strict=True):
        total[digit] = total.get(digit, 0.0) + share
    return total
