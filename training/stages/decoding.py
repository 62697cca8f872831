"""Answers of a causal language model, token by token, many at once.

A prompt is computed once, and its key-value cache repeated for the answers that follow. Finished
answers leave the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, PreTrainedModel

_ROWS = 16  # of logits in float32 at a time
_DROP_AT = 0.1  # share of finished rows at which the batch is copied without them


class Decoding(NamedTuple):
    """When a rewrite ends, and how it is padded."""

    max_tokens: int
    stops: tuple[int, ...]  # ids of the tokens that end a rewrite
    pad: int
    temperature: float = 1.0


class Answer(NamedTuple):
    """Token ids, the end token included, and their log-probability given the prompt.

    The log-probability is the model's own, at temperature 1. An answer that was cut at the most
    tokens has no end token in it.
    """

    ids: tuple[int, ...]
    log_probability: float


class Next(NamedTuple):
    """The next token of each row."""

    ids: Tensor  # int64 [rows]
    log_probability: Tensor  # float32 [rows]


Choose = Callable[[Tensor], Next]  # from logits, [rows, words]


@dataclass
class Batch:
    """Texts that a model has read: what it keeps of them, and what it says comes next."""

    cache: DynamicCache
    mask: Tensor  # int64 [rows, places of the cache]: whether a place belongs to the row's text
    logits: Tensor  # of the next token, [rows, words]

    def take(self, rows: Tensor) -> None:
        """Keeps these rows, which may repeat. Their logits come with the next token."""
        self.cache.batch_select_indices(rows)
        self.mask = self.mask[rows]

    def read(self, model: PreTrainedModel, ids: Tensor) -> None:
        """One more token of each row, int64 ``[rows]``."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], 1)
        self.logits = _next_logits(model, ids.unsqueeze(1), self.mask, self.cache)


def read_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], decoding: Decoding
) -> Batch:
    """A row for each prompt."""
    ids, mask = left_padded(prompts, decoding.pad, model.device)
    cache = DynamicCache(config=model.config)
    return Batch(cache, mask, _next_logits(model, ids, mask, cache))


def finish(
    model: PreTrainedModel,
    batch: Batch,
    begun: Sequence[Answer],
    decoding: Decoding,
    choose: Choose,
) -> list[Answer]:
    """Goes on from the first tokens of answers until each of them ends.

    Args:
        batch: a row for each answer, of which all tokens but the last have been read.
    """
    device = model.device
    stops = torch.tensor(decoding.stops, device=device)
    written = torch.full((len(begun), decoding.max_tokens), -1, device=device)
    for row, answer in enumerate(begun):
        written[row, : len(answer.ids)] = torch.tensor(answer.ids, device=device)
    length = torch.tensor([len(answer.ids) for answer in begun], device=device)
    total = torch.tensor([answer.log_probability for answer in begun], device=device)
    new = written[torch.arange(len(begun), device=device), length - 1]
    alive = torch.arange(len(begun), device=device)  # answers that the batch computes
    while True:
        going = ~torch.isin(new, stops) & (length[alive] < decoding.max_tokens)
        if not going.any():
            break
        if going.float().mean() <= 1 - _DROP_AT:
            keep = going.nonzero().squeeze(1)
            batch.take(keep)
            alive, new, going = alive[keep], new[keep], going[keep]
        batch.read(model, new)
        chosen = choose(batch.logits)
        # A finished answer that is still computed keeps its last token.
        new = torch.where(going, chosen.ids, new)
        rows = alive[going]
        written[rows, length[rows]] = chosen.ids[going]
        length[rows] += 1
        total[rows] += chosen.log_probability[going]
    return [
        Answer(tuple(token for token in row if token >= 0), value)
        for row, value in zip(written.tolist(), total.tolist(), strict=True)
    ]


def greedy(logits: Tensor) -> Next:
    """The most probable token of each row."""
    ids = logits.argmax(1)
    return Next(ids, log_probabilities(logits, ids))


def _next_logits(model: PreTrainedModel, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
    """Logits of the token after the last one, ``[rows, words]``."""
    # As an index, because a slice (``logits_to_keep=1``) is a view, for which torch copies the
    # output layer once for each row: 20 GB for 64 prompts.
    last = torch.tensor([ids.shape[1] - 1], device=ids.device)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output: Any = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=last,
    )
    logits: Tensor = output.logits[:, -1]
    return logits


def log_probabilities(logits: Tensor, ids: Tensor) -> Tensor:
    """Of a token of each row, float32 ``[rows]``.

    A few rows at a time, so that no second table of logits is needed.
    """
    parts = [
        -cross_entropy(rows.float(), chosen, reduction="none")  # 8 times as fast as logsumexp
        for rows, chosen in zip(torch.split(logits, _ROWS), torch.split(ids, _ROWS), strict=True)
    ]
    return torch.cat(parts)


def left_padded(
    prompts: Sequence[Sequence[int]], pad: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Token ids and their mask, int64 ``[prompts, longest]``."""
    longest = max(map(len, prompts))
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
