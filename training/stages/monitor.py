"""Logs and validates a run: a line for each step, TensorBoard, and the best adapter kept."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from peft import PeftModel
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.common.progress import say
from training.stages.processes import is_first

_LINE = {  # our name in the progress line: TRL's name
    "reward": "reward",
    "rank": "rank/mean",
    "R@10": "rank/r_at_10",
    "flat": "frac_reward_zero_std",
    "tokens": "completions/mean_length",
    "kl": "kl",
    "to target": "similarity/target",
    "to random": "similarity/random",
    "gap": "similarity/gap",
    "time in rewards": "reward_time_share",
}


class Validation(NamedTuple):
    """One evaluation on the fixed validation sample."""

    step: int
    r_at_1: float
    r_at_10: float
    mean_rank: float
    target: float  # mean cosine to the target, to random pictures, and their difference
    random: float
    gap: float

    @property
    def quality(self) -> tuple[float, float]:
        """What the best adapter is chosen by: R@10, then the mean rank."""
        return self.r_at_10, -self.mean_rank


class Progress(TrainerCallback):
    """Prints step, loss and the time left, each time that the trainer logs."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._began: tuple[float, int] | None = None

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "loss" not in logs:
            return
        now = time.monotonic()
        left = ""
        if self._began:
            then, step = self._began
            seconds = (now - then) / max(state.global_step - step, 1)
            left = f", about {seconds * (state.max_steps - state.global_step):.0f} s left"
        else:
            self._began = now, state.global_step
        say(f"{self._label} {state.global_step}/{state.max_steps}: loss {logs['loss']:.3f}{left}")


class Monitor(TrainerCallback):
    """Validates every few steps, keeps the best adapter, and stops a run that no longer improves.

    The results are kept in ``validation.jsonl``, from which a resumed run continues.

    Args:
        work: the work folder.
        validate: evaluates a model on the validation sample.
        every: steps between two validations.
        patience: validations without a new best before the run stops.
    """

    def __init__(
        self,
        work: Path,
        validate: Callable[[PeftModel], Validation],
        every: int,
        patience: int,
    ) -> None:
        self._file = work / "validation.jsonl"
        self._best = work / "best"
        self._validate = validate
        self._every = every
        self._patience = patience
        self.curve: list[Validation] = []
        self.steps: list[dict[str, float]] = []
        self.log: Callable[[dict[str, float]], None] | None = (
            None  # the trainer's, once there is one
        )

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._file.is_file():
            lines = self._file.read_text().splitlines()
            self.curve = [Validation(**json.loads(line)) for line in lines]
            # The steps after the checkpoint will be validated again.
            self.curve = [seen for seen in self.curve if seen.step <= state.global_step]
        if not self.curve:
            self._run_validation(state.global_step, kwargs["model"])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        if not logs or "reward" not in logs or not is_first():
            return
        if logs.get("step_time"):
            spent = sum(value for name, value in logs.items() if name.startswith("seconds/"))
            logs["reward_time_share"] = spent / logs["step_time"]
        self.steps.append({"step": state.global_step, **logs})
        parts = {
            name.split("/")[1]: value
            for name, value in logs.items()
            if name.startswith("rewards/") and name.endswith("/mean")
        }
        shown = {name: logs[key] for name, key in _LINE.items() if key in logs}
        words = [f"{name} {value:.3g}" for name, value in {**shown, **parts}.items()]
        say(f"step {state.global_step}/{state.max_steps}: {', '.join(words)}")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self._every == 0 or state.global_step == state.max_steps:
            self._run_validation(state.global_step, kwargs["model"])
            best = max(range(len(self.curve)), key=lambda i: self.curve[i].quality)
            if len(self.curve) - 1 - best >= self._patience:
                say(
                    f"No improvement in {self._patience} validations: stopping at step "
                    f"{state.global_step}."
                )
                control.should_training_stop = True

    def _run_validation(self, step: int, model: PeftModel) -> None:
        best_so_far = max((seen.quality for seen in self.curve), default=(-math.inf, 0.0))
        seen = self._validate(model)._replace(step=step)
        self.curve.append(seen)
        if seen.quality > best_so_far and is_first():
            model.save_pretrained(str(self._best), selected_adapters=["default"])
        if not is_first():
            return  # every process validates, so that all stop at the same step; one writes
        self._file.write_text("".join(json.dumps(s._asdict()) + "\n" for s in self.curve))
        if self.log:
            self.log({f"validation/{k}": v for k, v in seen._asdict().items() if k != "step"})
        say(
            f"validation at step {step}: R@1 {seen.r_at_1:.3f}, R@10 {seen.r_at_10:.3f}, mean rank "
            f"{seen.mean_rank:.0f}, similarity to target {seen.target:.3f}, to random "
            f"{seen.random:.3f}, gap {seen.gap:.3f}"
        )
