"""Log-probabilities of tokens from hidden states, without the table of all logits."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

_CHUNK = 128  # tokens; the logits of one chunk over 262,144 words take 128 MB in float32


class Head(NamedTuple):
    """A frozen output layer without bias, and the temperature that its logits are divided by."""

    weight: Tensor  # [words, dim]
    temperature: float = 1.0


class TokenScores(NamedTuple):
    """Log-probability of each token, and the entropy of the distribution it comes from, in nats."""

    log_probabilities: Tensor  # float32 [tokens]; differentiable
    entropies: Tensor  # float32 [tokens]; differentiable only if that was asked for


def token_scores(
    hidden: Tensor, labels: Tensor, head: Head, learn_entropy: bool = False
) -> TokenScores:
    """Scores tokens by the hidden states that predict them.

    Args:
        hidden: ``[tokens, dim]``.
        labels: int64 ``[tokens]``.
        learn_entropy: whether the entropies have a gradient, which costs one more matrix product.
    """
    found = _Scores.apply(hidden, labels, head, learn_entropy)  # type: ignore[no-untyped-call]
    return TokenScores(*found)


class _Scores(torch.autograd.Function):
    """The gradients are known in the forward pass, with ``p = softmax(W h / temperature)``.

    That of a log-probability is ``(W[label] - p W) / temperature``, that of the entropy H
    ``-(p (log p + H)) W / temperature``. So each chunk of logits is made once, and only a vector of
    ``dim`` or two per token is kept.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, labels: Tensor, head: Head, learn_entropy: bool
    ) -> tuple[Tensor, Tensor]:
        table = _Table(head, min(len(hidden), _CHUNK))
        scores, entropies, gradients = [], [], []
        of_entropies = []
        for states, chosen in zip(
            torch.split(hidden, _CHUNK), torch.split(labels, _CHUNK), strict=True
        ):
            log_probabilities, found = table.fill(states, chosen)
            scores.append(log_probabilities)
            entropies.append(found)
            if ctx.needs_input_grad[0]:
                gradients.append(table.gradient(chosen))
                if learn_entropy:
                    of_entropies.append(table.entropy_gradient(found))
        kept = [torch.cat(part).to(hidden.dtype) for part in (gradients, of_entropies) if part]
        ctx.save_for_backward(*kept)
        entropy = torch.cat(entropies)
        if not learn_entropy:
            ctx.mark_non_differentiable(entropy)
        return torch.cat(scores), entropy

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        parts = [
            above.unsqueeze(1).to(own.dtype) * own
            for above, own in zip(gradients, ctx.saved_tensors, strict=False)
        ]
        return torch.stack(parts).sum(0), None, None, None


class _Table:
    """The logits of one chunk, in memory that all chunks share.

    New memory for each of them took longer than the matrix product.
    """

    def __init__(self, head: Head, rows: int) -> None:
        weight = head.weight
        self._head = head
        self._product = weight.new_empty(rows, len(weight))
        self._shifted = torch.empty_like(self._product, dtype=torch.float32)
        self._powers = torch.empty_like(self._shifted)
        self._total = torch.empty(0)  # of the powers, [rows, 1]

    def fill(self, states: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the labels, and entropies; float32 ``[rows]`` each."""
        weight, temperature = self._head
        rows = len(states)
        product, shifted, powers = (
            table[:rows] for table in (self._product, self._shifted, self._powers)
        )
        torch.mm(states.to(weight.dtype), weight.T, out=product)
        shifted.copy_(product)
        shifted.sub_(shifted.amax(1, keepdim=True))
        if temperature != 1:
            shifted.div_(temperature)
        torch.exp(shifted, out=powers)
        self._total = powers.sum(1, keepdim=True)
        log_total = self._total.log().squeeze(1)
        chosen = shifted.gather(1, labels.unsqueeze(1)).squeeze(1)
        mean = torch.linalg.vecdot(powers, shifted) / self._total.squeeze(1)
        return chosen - log_total, log_total - mean

    def gradient(self, labels: Tensor) -> Tensor:
        """Of the last filled rows' log-probabilities to their states, ``[rows, dim]``."""
        weight, temperature = self._head
        rows = len(labels)
        probabilities = self._product[:rows].copy_(self._powers[:rows].div_(self._total))
        return (weight[labels] - probabilities @ weight) / temperature

    def entropy_gradient(self, entropies: Tensor) -> Tensor:
        """Of the last filled rows' entropies to their states, ``[rows, dim]``.

        Comes after :meth:`gradient`, which leaves the probabilities.
        """
        weight, temperature = self._head
        rows = len(entropies)
        shares = self._shifted[:rows].sub_(self._total.log()).add_(entropies.unsqueeze(1))
        shares.mul_(self._powers[:rows])
        return -(self._product[:rows].copy_(shares) @ weight) / temperature
