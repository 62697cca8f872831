"""SFT whose loss computes the vocabulary's scores where an answer stands, and nowhere else.

TRL does so on a GPU. On a CPU it scores every token of prompt and padding too, and a small model's
vocabulary (Gemma 3: 262,144 words of 640 numbers) costs more than all of its layers.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy
from trl import SFTTrainer

IGNORED = -100  # the label of a token that is not taught


class AnswersOnlyTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer for one process on a CPU; without its entropy and token accuracy."""

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> Any:
        """Mean negative log-likelihood of the answers' tokens: a scalar, float32.

        Args:
            inputs: ``labels`` [batch, length] are token ids, or ``IGNORED``.
            num_items_in_batch: taught tokens of all micro batches that make a step.
        """
        assert not return_outputs, "there is no evaluation during SFT"
        following = inputs["labels"][:, 1:]
        places = (following != IGNORED).any(dim=0).nonzero().squeeze(1)
        known = {key: value for key, value in inputs.items() if key != "labels"}
        logits = model(**known, use_cache=False, logits_to_keep=places).logits
        following = following[:, places]
        taught = following != IGNORED
        loss = cross_entropy(logits[taught].float(), following[taught], reduction="sum")
        return loss / (taught.sum() if num_items_in_batch is None else num_items_in_batch)
