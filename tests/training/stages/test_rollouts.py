"""Rollouts: what they draw is what the model says, and a merged copy is the policy."""

from typing import Any

import pytest
import torch

from tests.support.tiny_gemma import NEWLINE, PAD, tiny_gemma, tiny_policy
from training.stages.decoding import Answer, Decoding
from training.stages.merged_policy import MergedPolicy
from training.stages.rollouts import likeliest_answers, sample_groups

PROMPTS = [[7, 8, 9], [11, 12, 13, 14, 15, 16], [20]]
DECODING = Decoding(max_tokens=9, stops=(NEWLINE,), pad=PAD)


def _log_probability(model: Any, prompt: list[int], answer: Answer) -> float:
    ids = torch.tensor([[*prompt, *answer.ids]])
    logits = model(input_ids=ids).logits[0, len(prompt) - 1 : -1]
    return float(logits.detach().log_softmax(1)[range(len(answer.ids)), answer.ids].sum())


def greedy_from(model: Any, prompt: list[int], begun: tuple[int, ...]) -> tuple[int, ...]:
    """An answer that begins like this, finished by transformers."""
    if begun and (begun[-1] == NEWLINE or len(begun) == DECODING.max_tokens):
        return begun
    written = model.generate(
        input_ids=torch.tensor([[*prompt, *begun]]),
        max_new_tokens=DECODING.max_tokens - len(begun),
        do_sample=False,
        eos_token_id=NEWLINE,
        pad_token_id=PAD,
    )
    return tuple(written[0, len(prompt) :].tolist())


def ways_out(model: Any, prompt: list[int], greedy: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Whatever leaves the greedy answer at one of its tokens, the most probable first."""
    logits = model(input_ids=torch.tensor([[*prompt, *greedy]])).logits[0, len(prompt) - 1 : -1]
    logs = logits.detach().log_softmax(1)
    found = {}
    for place, chosen in enumerate(greedy):
        before = float(logs[range(place), greedy[:place]].sum())
        for token in range(logs.shape[1]):
            if token != chosen and (place or token != NEWLINE):
                found[*greedy[:place], token] = before + float(logs[place, token])
    return sorted(found, key=lambda way: -found[way])


@pytest.mark.parametrize("count", [4, 16])
def test_the_likeliest_answers_leave_the_greedy_one_where_the_model_hesitates_most(
    count: int,
) -> None:
    model = tiny_gemma()
    model.lm_head.weight.data *= 3  # random weights are never sure of a word
    found = likeliest_answers(model, PROMPTS, count, DECODING)
    lengths = set()
    for prompt, answers in zip(PROMPTS, found, strict=True):
        greedy = greedy_from(model, prompt, ())
        ways = ways_out(model, prompt, greedy)[: count - 1]
        lengths |= {len(way) for way in ways}
        assert [answer.ids for answer in answers] == [
            greedy, *(greedy_from(model, prompt, way) for way in ways)
        ]  # fmt: skip
        for answer in answers:
            expected = _log_probability(model, prompt, answer)
            assert abs(answer.log_probability - expected) < 1e-3
    assert len(lengths) > 1


def test_a_sample_ends_at_the_end_token_or_at_the_most_tokens() -> None:
    torch.manual_seed(0)
    groups = sample_groups(tiny_gemma(), PROMPTS, 40, DECODING)
    answers = [answer.ids for group in groups for answer in group]
    ended = [ids for ids in answers if ids[-1] == NEWLINE]
    assert ended
    assert all(NEWLINE not in ids[:-1] for ids in answers)
    assert all(len(ids) == 9 for ids in answers if ids[-1] != NEWLINE)
    assert len({len(ids) for ids in ended}) > 1


def test_samples_are_as_frequent_as_the_model_says() -> None:
    torch.manual_seed(1)
    model = tiny_gemma()
    (group,) = sample_groups(model, [PROMPTS[0]], 4000, DECODING._replace(max_tokens=1))
    probabilities = model(input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1].softmax(0)
    best = int(probabilities.argmax())
    share = sum(answer.ids == (best,) for answer in group) / len(group)
    assert abs(share - float(probabilities[best])) < 0.03


def test_a_merged_copy_follows_the_policy_and_shares_its_embeddings() -> None:
    policy = tiny_policy()
    copy = MergedPolicy(policy)
    ids = torch.tensor([PROMPTS[1]])
    for scale in (1.0, 0.3):
        for name, weight in policy.named_parameters():
            if "lora_B" in name:
                weight.data.mul_(scale)
        torch.testing.assert_close(copy.current()(ids).logits, policy(ids).logits)
    embeddings = copy.current().get_input_embeddings().weight
    assert embeddings is policy.get_base_model().get_input_embeddings().weight
