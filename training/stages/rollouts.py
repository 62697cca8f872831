"""Rewrites drawn from, or found in, a causal language model: a whole group for each prompt at once.

The prompt is computed once for its group and its key-value cache repeated, and finished rewrites
leave the batch. A policy with an adapter is sampled from a merged copy of itself.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import DynamicCache, PreTrainedModel

_MOST_WORDS = 64  # that a token is drawn from; the rest of the vocabulary is left out
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

    ids: list[int]
    log_probability: float


Choose = Callable[[Tensor, int], Tensor]  # float [rows, words], count -> ids [rows, count]
Score = Callable[[Tensor, Tensor], Tensor]  # float [rows, words], ids [rows] -> float32 [rows]


def draw(temperature: float) -> Choose:
    """Draws tokens independently, from the 64 most probable ones."""

    def choose(logits: Tensor, count: int) -> Tensor:
        best, ids = logits.topk(min(_MOST_WORDS, logits.shape[1]))
        drawn = torch.multinomial((best.float() / temperature).softmax(1), count, replacement=True)
        return ids.gather(1, drawn)

    return choose


def most_probable(logits: Tensor, count: int) -> Tensor:
    """The ``count`` most probable tokens, which are all different."""
    return logits.topk(count).indices


@torch.no_grad()
def sample_groups(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], group: int, decoding: Decoding
) -> list[list[list[int]]]:
    """Token ids of ``group`` independent samples for each prompt, in the order of the prompts."""
    how = _How(draw(decoding.temperature), _zeros)
    return [
        [answer.ids for answer in found] for found in _decode(model, prompts, group, decoding, how)
    ]


@torch.no_grad()
def likeliest_answers(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], count: int, decoding: Decoding
) -> list[list[Answer]]:
    """The ``count`` most probable first tokens of each prompt, each continued greedily."""
    return _decode(model, prompts, count, decoding, _How(most_probable, _log_probabilities))


class _How(NamedTuple):
    choose: Choose
    score: Score


def _decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    group: int,
    decoding: Decoding,
    how: _How,
) -> list[list[Answer]]:
    device = model.device
    stops = torch.tensor(decoding.stops, device=device)
    ids, mask = left_padded(prompts, decoding.pad, device)
    cache = DynamicCache(config=model.config)
    logits = _next_logits(model, ids, mask, cache)
    new = how.choose(logits, group).flatten()
    logits = logits.repeat_interleave(group, 0)
    cache.batch_repeat_interleave(group)
    mask = mask.repeat_interleave(group, 0)
    written = torch.full((len(new), decoding.max_tokens), -1, device=device)
    total = torch.zeros(len(new), device=device)
    alive = torch.arange(len(new), device=device)  # rows of ``written`` that the batch computes
    going = torch.ones_like(alive, dtype=torch.bool)  # rows of the batch that are not finished
    for step in range(decoding.max_tokens):
        rows = alive[going]
        written[rows, step] = new[going]
        total[rows] += how.score(logits, new)[going]
        going &= ~torch.isin(new, stops)
        if step + 1 == decoding.max_tokens or not going.any():
            break
        if going.float().mean() <= 1 - _DROP_AT:
            keep = going.nonzero().squeeze(1)
            cache.batch_select_indices(keep)
            alive, mask, new, going = alive[keep], mask[keep], new[keep], going[keep]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
        logits = _next_logits(model, new.unsqueeze(1), mask, cache)
        new = how.choose(logits, 1).squeeze(1)
    answers = [
        Answer([token for token in row if token >= 0], value)
        for row, value in zip(written.tolist(), total.tolist(), strict=True)
    ]
    return [answers[start : start + group] for start in range(0, len(answers), group)]


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


def _zeros(logits: Tensor, ids: Tensor) -> Tensor:
    """In place of log-probabilities, which take longer than the layers, where nobody reads them."""
    return torch.zeros(len(ids), device=ids.device)


def _log_probabilities(logits: Tensor, ids: Tensor) -> Tensor:
    """A few rows at a time, so that no second table of logits is needed."""
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


class MergedPolicy:
    """A copy of a policy with its adapter merged into the weights, which is faster to sample from.

    Weights without an adapter, the embeddings above all, are shared with the policy. Make the copy
    before a trainer replaces the policy's ``forward``: the copy would call the original's.
    """

    def __init__(self, policy: PeftModel) -> None:
        self._adapted: dict[str, Any] = {
            name: layer
            for name, layer in policy.get_base_model().named_modules()
            if isinstance(layer, LoraLayer)
        }
        base = policy.get_base_model()
        own = {id(layer.get_base_layer().weight) for layer in self._adapted.values()}
        shared = {id(weight): weight for weight in base.parameters() if id(weight) not in own}
        self._model: Any = copy.deepcopy(base, shared)
        for name in self._adapted:
            layer: Any = self._model.get_submodule(name)
            self._model.set_submodule(name, layer.get_base_layer())
        self._model.eval()

    @torch.no_grad()
    def current(self) -> PreTrainedModel:
        """The copy with the adapter as it is now; the next call changes it."""
        self._model.to(next(iter(self._adapted.values())).weight.device)  # a trainer moves policies
        for name, layer in self._adapted.items():
            merged: Any = self._model.get_submodule(name).weight
            base = layer.get_base_layer().weight
            merged.copy_(base + layer.get_delta_weight("default"))
        model: PreTrainedModel = self._model
        return model
