"""Log-probabilities of tokens from hidden states, without the table of all logits."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

_CHUNK = 256  # tokens; the logits of one chunk over 262,144 words take 256 MB in float32


class Head(NamedTuple):
    """A frozen output layer without bias, and the temperature that its logits are divided by."""

    weight: Tensor  # [words, dim]
    temperature: float = 1.0


class TokenScores(NamedTuple):
    """Log-probability of each token, and the entropy of the distribution it comes from, in nats."""

    log_probabilities: Tensor  # float32 [tokens]; differentiable
    entropies: Tensor  # float32 [tokens]; not differentiable


def token_scores(hidden: Tensor, labels: Tensor, head: Head) -> TokenScores:
    """Scores tokens by the hidden states that predict them.

    Args:
        hidden: ``[tokens, dim]``.
        labels: int64 ``[tokens]``.
    """
    return TokenScores(*_Scores.apply(hidden, labels, head))  # type: ignore[no-untyped-call]


class _Scores(torch.autograd.Function):
    """The gradient is known in the forward pass: ``(W[label] - softmax(W h) W) / temperature``.

    So each chunk of logits is made once, and only a vector of ``dim`` per token is kept.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, labels: Tensor, head: Head) -> tuple[Tensor, Tensor]:
        weight, temperature = head
        scores, entropies, gradients = [], [], []
        for states, chosen in zip(
            torch.split(hidden, _CHUNK), torch.split(labels, _CHUNK), strict=True
        ):
            logits = (states.to(weight.dtype) @ weight.T).float() / temperature
            logs = logits.log_softmax(1)
            scores.append(logs.gather(1, chosen.unsqueeze(1)).squeeze(1))
            probabilities = logs.exp()
            entropies.append(-torch.linalg.vecdot(probabilities, logs))
            mean = probabilities.to(weight.dtype) @ weight
            gradients.append((weight[chosen] - mean) / temperature)
        ctx.save_for_backward(torch.cat(gradients).to(hidden.dtype))
        found = torch.cat(entropies)
        ctx.mark_non_differentiable(found)
        return torch.cat(scores), found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (by_token,) = ctx.saved_tensors
        return gradients[0].unsqueeze(1).to(by_token.dtype) * by_token, None, None
