"""Packed rows give every answer the scores and gradients that it has alone."""

from typing import Any

import torch

from tests.support.tiny_gemma import PAD, tiny_gemma
from training.stages.packing import pack
from training.stages.token_scores import Head, token_scores

PROMPTS = [(7, 8, 9)] * 4 + [(11, 12, 13, 14, 15)] * 2
ANSWERS = [(21, 22, 5), (23, 5), (21, 22, 5), (30, 31, 32, 33), (21, 5), (40, 41, 5)]


def _alone(model: Any, temperature: float) -> list[torch.Tensor]:
    scores = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        scores.append((logits / temperature).log_softmax(1)[range(len(answer)), answer])
    return scores


def _packed(model: Any, temperature: float) -> list[torch.Tensor]:
    packed = pack(PROMPTS, ANSWERS, PAD)
    hidden = model.model(
        input_ids=packed.ids,
        position_ids=packed.positions,
        attention_mask=packed.visible,
        use_cache=False,
    ).last_hidden_state
    head = Head(model.lm_head.weight, temperature)
    scores = token_scores(hidden.flatten(0, 1)[packed.scored], packed.labels, head)
    return [scores.log_probabilities[place[place >= 0]] for place in packed.place]


def test_an_answer_has_the_same_log_probabilities_as_alone() -> None:
    model = tiny_gemma()
    for alone, packed in zip(_alone(model, 0.7), _packed(model, 0.7), strict=True):
        torch.testing.assert_close(alone, packed, atol=1e-5, rtol=1e-4)


def test_equal_answers_of_a_group_are_computed_once() -> None:
    packed = pack(PROMPTS, ANSWERS, PAD)
    assert packed.place[0].tolist() == packed.place[2].tolist()
    assert len(packed.labels) == sum(map(len, ANSWERS)) - 3
    assert packed.ids.shape == (2, 3 + 2 + 1 + 3)


def test_gradients_are_those_of_the_answers_alone() -> None:
    weights = torch.tensor([0.5, -1.0, 2.0, 0.3, -0.2, 1.1])
    gradients = []
    for scores in (_alone, _packed):
        model = tiny_gemma()
        model.lm_head.weight.requires_grad_(False)  # tied to the embeddings, as in training
        loss = sum(w * s.sum() for w, s in zip(weights, scores(model, 0.7), strict=True))
        loss.backward()
        trained = [weight.grad for weight in model.parameters() if weight.grad is not None]
        gradients.append(torch.cat([gradient.flatten() for gradient in trained]))
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_entropy_and_scores_are_those_of_the_softmax() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(600, 8, requires_grad=True)  # more than one chunk
    weight, labels = torch.randn(50, 8), torch.randint(50, (600,))
    scores = token_scores(hidden, labels, Head(weight, 2.0))
    logs = (hidden @ weight.T / 2.0).log_softmax(1)
    torch.testing.assert_close(scores.log_probabilities, logs[range(600), labels])
    torch.testing.assert_close(scores.entropies, -(logs.exp() * logs).sum(1))
    factors = torch.randn(600)
    (given,) = torch.autograd.grad((scores.log_probabilities * factors).sum(), hidden)
    (expected,) = torch.autograd.grad((logs[range(600), labels] * factors).sum(), hidden)
    torch.testing.assert_close(given, expected)


def test_entropies_have_a_gradient_where_it_is_asked_for() -> None:
    torch.manual_seed(0)
    hidden = torch.randn(300, 8, requires_grad=True)
    weight, labels = torch.randn(50, 8), torch.randint(50, (300,))
    scores = token_scores(hidden, labels, Head(weight, 0.7), learn_entropy=True)
    logs = (hidden @ weight.T / 0.7).log_softmax(1)
    factors = torch.randn(2, 300)
    both = (scores.log_probabilities * factors[0] + scores.entropies * factors[1]).sum()
    (given,) = torch.autograd.grad(both, hidden)
    entropies = -(logs.exp() * logs).sum(1)
    (expected,) = torch.autograd.grad(
        (logs[range(300), labels] * factors[0] + entropies * factors[1]).sum(), hidden
    )
    torch.testing.assert_close(given, expected)
    assert not token_scores(hidden, labels, Head(weight)).entropies.requires_grad
