"""Rewrites drawn from, or found in, a causal language model: a whole group for each prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from training.stages.decoding import (
    Answer,
    Batch,
    Decoding,
    Next,
    finish,
    greedy,
    log_probabilities,
    read_prompts,
)

_MOST_WORDS = 64  # that a token is drawn from; the rest of the vocabulary is left out


@torch.no_grad()
def sample_groups(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], group: int, decoding: Decoding
) -> list[list[Answer]]:
    """``group`` independent samples for each prompt, without their log-probabilities."""

    def draw(logits: Tensor) -> Next:
        ids = _drawn(logits, 1, decoding.temperature).squeeze(1)
        # Log-probabilities take longer than the layers, and nobody reads them.
        return Next(ids, torch.zeros(len(ids), device=ids.device))

    batch = read_prompts(model, prompts, decoding)
    first = _drawn(batch.logits, group, decoding.temperature).flatten().tolist()
    batch.take(torch.arange(len(prompts), device=model.device).repeat_interleave(group))
    begun = [Answer((token,), 0.0) for token in first]
    answers = finish(model, batch, begun, decoding, draw)
    return [answers[start : start + group] for start in range(0, len(answers), group)]


def _drawn(logits: Tensor, count: int, temperature: float) -> Tensor:
    """Tokens drawn independently from the most probable ones, ``[rows, count]``."""
    best, ids = logits.topk(min(_MOST_WORDS, logits.shape[1]))
    drawn = torch.multinomial((best.float() / temperature).softmax(1), count, replacement=True)
    return ids.gather(1, drawn)


@torch.no_grad()
def likeliest_answers(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], count: int, decoding: Decoding
) -> list[list[Answer]]:
    """For each prompt the greedy answer, and the ``count - 1`` likeliest ways to leave it.

    Serving searches with these rewrites (:mod:`models.rewriter.vllm_branches`). Each way out is
    finished greedily. All answers of a prompt are different, and the greedy one is the first.
    Texts must fit the model's sliding window: in longer ones a way out sees less of the prompt.
    """
    batch = read_prompts(model, prompts, decoding)
    prompt_length = batch.mask.shape[1]
    walks = _walk_greedily(model, batch, count, decoding)
    begun = [walk.branches(count - 1, decoding.stops) for walk in walks]
    going = [
        (row, place)
        for row, branches in enumerate(begun)
        for place, branch in enumerate(branches)
        if branch.ids[-1] not in decoding.stops
    ]
    if going:
        batch.take(torch.tensor([row for row, _ in going], device=model.device))
        for number, (row, place) in enumerate(going):
            # A branch has read the greedy answer as far as it shares it.
            batch.mask[number, prompt_length + len(begun[row][place].ids) - 1 :] = 0
        first = [begun[row][place] for row, place in going]
        finished = finish(model, batch, first, decoding, greedy)
        for (row, place), answer in zip(going, finished, strict=True):
            begun[row][place] = answer
    return [[walk.answer, *branches] for walk, branches in zip(walks, begun, strict=True)]


@dataclass
class _Walk:
    """A greedy answer, and at each of its tokens what else the model considered."""

    answer: Answer = field(default_factory=lambda: Answer((), 0.0))
    passed: list[Answer] = field(default_factory=list)  # the greedy tokens before, and another one

    def step(self, tokens: Sequence[int], log_probabilities: Sequence[float]) -> None:
        """One more token: the first of these, which are the most probable ones."""
        ids, before = self.answer
        ways = [
            Answer((*ids, token), before + value)
            for token, value in zip(tokens, log_probabilities, strict=True)
        ]
        self.answer, *others = ways
        self.passed += others

    def branches(self, most: int, stops: tuple[int, ...]) -> list[Answer]:
        """The most probable ones, without the empty answer."""
        found = [way for way in self.passed if len(way.ids) > 1 or way.ids[0] not in stops]
        return sorted(found, key=lambda way: (-way.log_probability, way.ids))[:most]


def _walk_greedily(
    model: PreTrainedModel, batch: Batch, count: int, decoding: Decoding
) -> list[_Walk]:
    """The greedy answer of each row. Rows that are finished stay in the batch."""
    walks = [_Walk() for _ in range(len(batch.mask))]
    for step in range(decoding.max_tokens):
        # One more than is needed, because the empty answer is left out.
        best, ids = batch.logits.topk(min(count + 1, batch.logits.shape[1]))
        first = log_probabilities(batch.logits, ids[:, 0])
        logs = (best.float() - best[:, :1].float()) + first[:, None]
        for walk, tokens, values in zip(walks, ids.tolist(), logs.tolist(), strict=True):
            if not walk.answer.ids or walk.answer.ids[-1] not in decoding.stops:
                walk.step(tokens, values)
        going = [walk.answer.ids[-1] not in decoding.stops for walk in walks]
        if step + 1 == decoding.max_tokens or not any(going):
            break
        batch.read(model, ids[:, 0])
    return walks
