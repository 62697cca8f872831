"""A floor under the policy's entropy, below which training rewards what is less certain."""

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EntropyFloor(TrainerCallback):
    """Sets the target of TRL's adaptive entropy control to a share of the run's first entropy.

    The control is that of Skywork-OR1 (arXiv 2505.22312; its abstract and TRL's source were read).
    After each step with an entropy at or below the target its coefficient c rises by
    ``entropy_coef_delta``, otherwise it falls; while the entropy is that low, the loss is
    ``policy loss - c * mean entropy of a token``. Until the first steps are over the target is 0,
    which no entropy reaches.

    Args:
        share: of the first entropy, in the target.
        first: steps whose mean is the first entropy. One step asks one kind of query only, and
            kinds differ.
    """

    def __init__(self, share: float, first: int) -> None:
        self._share = share
        self._first = first

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Also after a resume: the history comes from the checkpoint.
        seen = [logs["entropy"] for logs in state.log_history if "entropy" in logs][: self._first]
        if len(seen) == self._first:
            args.entropy_target = self._share * sum(seen) / len(seen)  # type: ignore[attr-defined]
