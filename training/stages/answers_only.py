"""SFT whose loss computes logits only at the positions of the answers.

On a GPU, TRL does the same. On a CPU it computes them at every position, including prompt and
padding, and the large vocabulary of a small model (Gemma 3: 262,144 tokens by 640 dimensions) then
costs more than all of its layers.
"""

from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad
from trl import SFTTrainer

IGNORED = -100  # the label of a token that the loss leaves out


class AnswersOnlyTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer for one process on a CPU, without its entropy and token accuracy."""

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
            num_items_in_batch: answer tokens of all micro batches that make up a step.
        """
        assert not return_outputs, "there is no evaluation during SFT"
        # The batch becomes one row without padding. Position ids that restart at 0 tell the model
        # where a new text begins, and a single row lets us ask for the logits of any position.
        real = inputs["attention_mask"].bool()
        positions = inputs["attention_mask"].cumsum(dim=1) - 1
        next_tokens = pad(inputs["labels"][:, 1:], (0, 1), value=IGNORED)[real]
        answers = (next_tokens != IGNORED).nonzero().squeeze(1)
        logits = model(
            input_ids=inputs["input_ids"][real].unsqueeze(0),
            position_ids=positions[real].unsqueeze(0),
            logits_to_keep=answers,
            use_cache=False,
        ).logits.squeeze(0)
        loss = cross_entropy(logits.float(), next_tokens[answers], reduction="sum")
        return loss / (len(answers) if num_items_in_batch is None else num_items_in_batch)
