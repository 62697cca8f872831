"""SFT whose loss computes the vocabulary's scores where an answer stands, and nowhere else.

TRL does so on a GPU. On a CPU it scores every token of prompt and padding too, and a small model's
vocabulary (Gemma 3: 262,144 words of 640 numbers) costs more than all of its layers.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad
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
        # One row without padding: positions that begin again at 0 tell the model where a new text
        # does, and of one row any places' scores can be asked for.
        real = inputs["attention_mask"].bool()
        positions = inputs["attention_mask"].cumsum(dim=1) - 1
        following = pad(inputs["labels"][:, 1:], (0, 1), value=IGNORED)[real]
        places = (following != IGNORED).nonzero().squeeze(1)
        logits = model(
            input_ids=inputs["input_ids"][real].unsqueeze(0),
            position_ids=positions[real].unsqueeze(0),
            logits_to_keep=places,
            use_cache=False,
        ).logits.squeeze(0)
        loss = cross_entropy(logits.float(), following[places], reduction="sum")
        return loss / (len(places) if num_items_in_batch is None else num_items_in_batch)
