"""Rollouts: what they draw is what the model says, and a merged copy is the policy."""

from typing import Any

import torch

from tests.support.tiny_gemma import NEWLINE, PAD, tiny_gemma, tiny_policy
from training.stages.rollouts import (
    Answer,
    Decoding,
    MergedPolicy,
    likeliest_answers,
    sample_groups,
)

PROMPTS = [[7, 8, 9], [11, 12, 13, 14, 15, 16], [20]]
DECODING = Decoding(max_tokens=9, stops=(NEWLINE,), pad=PAD)


def _log_probability(model: Any, prompt: list[int], answer: Answer) -> float:
    logits = model(input_ids=torch.tensor([prompt + answer.ids])).logits[0, len(prompt) - 1 : -1]
    return float(logits.detach().log_softmax(1)[range(len(answer.ids)), answer.ids].sum())


def test_the_most_probable_answer_is_the_greedy_one_with_the_models_own_probability() -> None:
    model = tiny_gemma()
    found = likeliest_answers(model, PROMPTS, 4, DECODING)
    for prompt, answers in zip(PROMPTS, found, strict=True):
        assert len({answer.ids[0] for answer in answers}) == 4
        ids = torch.tensor([prompt])
        greedy = model.generate(
            input_ids=ids, max_new_tokens=9, do_sample=False, eos_token_id=NEWLINE, pad_token_id=PAD
        )
        assert answers[0].ids == greedy[0, len(prompt) :].tolist()
        for answer in answers:
            expected = _log_probability(model, prompt, answer)
            assert abs(answer.log_probability - expected) < 1e-3


def test_a_sample_ends_at_the_end_token_or_at_the_most_tokens() -> None:
    torch.manual_seed(0)
    groups = sample_groups(tiny_gemma(), PROMPTS, 40, DECODING)
    answers = [ids for group in groups for ids in group]
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
    share = sum(ids == [best] for ids in group) / len(group)
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
