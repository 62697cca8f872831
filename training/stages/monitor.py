"""Logs and validates a run: a line for each step, TensorBoard, and the best adapter kept."""

import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from models.common.progress import say
from models.rewriter.adapter import WEIGHTS
from training.settings import TrainSettings
from training.stages.learning_curve import LearningCurve
from training.stages.processes import is_first
from training.stages.validation import Validation

_LINE = {  # our name in the progress line: TRL's name
    "reward": "reward",
    "rank": "rank/mean",
    "R@10": "rank/r_at_10",
    "log likelihood": "likelihood/train",
    "flat": "frac_reward_zero_std",
    "distinct": "distinct",
    "drawn": "adaptive/drawn",
    "tokens": "completions/mean_length",
    "kl": "kl",
    "entropy": "entropy",
    "entropy weight": "entropy_coef",
    "to target": "similarity/target",
    "to random": "similarity/random",
    "gap": "similarity/gap",
    "time in rewards": "reward_time_share",
}


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

    The best one has the greatest held-out log-likelihood. The results are kept in
    ``validation.jsonl``, from which a resumed run continues.

    Args:
        settings: when to validate, when to stop, and what to average.
        validate: evaluates a model on the validation sample.
    """

    def __init__(
        self, settings: TrainSettings, validate: Callable[[PeftModel], Validation]
    ) -> None:
        work = settings.work_folder
        self._file = work / "validation.jsonl"
        self._best = work / "best"
        self._averaged = work / "averaged"
        self._settings = settings
        self._validate = validate
        self.curve: list[Validation] = []
        self.steps: Sequence[dict[str, float]] = []
        self.log: Callable[[dict[str, float]], None] | None = (
            None  # the trainer's, once there is one
        )

    @property
    def learning_curve(self) -> LearningCurve:
        """The run so far."""
        return LearningCurve(self.curve, self.steps)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._file.is_file():
            lines = self._file.read_text().splitlines()
            self.curve = [Validation(**json.loads(line)) for line in lines]
            # The steps after the checkpoint will be validated again.
            self.curve = [s for s in self.curve if s.step <= state.global_step and s.averaged == 1]
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
            share = spent / logs["step_time"]
            logs["reward_time_share"] = state.log_history[-1]["reward_time_share"] = share
        # Also the steps before a run was resumed. The trainer adds a summary to its own list.
        self.steps = [step for step in state.log_history if "reward" in step]
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
        step, patience = state.global_step, self._settings.patience
        if step % self._settings.validation_every and step != state.max_steps:
            return
        self._run_validation(step, kwargs["model"])
        first = self._settings.average_weights_from
        if first is not None and step >= first and is_first():
            kwargs["model"].save_pretrained(
                str(self._averaged / str(step)), selected_adapters=["default"]
            )
        best = self.curve.index(self.learning_curve.best)
        if len(self.curve) - 1 - best >= patience:
            say(f"No improvement in {patience} validations: stopping at step {step}.")
            control.should_training_stop = True

    def validate_average(self, model: PeftModel) -> None:
        """Validates the mean of the adapters that were kept for it, as one more candidate.

        The model has these weights afterwards.
        """
        first, steps = self._settings.average_weights_from, [seen.step for seen in self.curve]
        kept = [self._averaged / str(s) for s in steps if first is not None and s >= max(first, 1)]
        if len(kept) < 2:
            return
        adapters = [load_file(folder / WEIGHTS) for folder in kept]
        mean = {name: sum(a[name] for a in adapters) / len(adapters) for name in adapters[0]}
        set_peft_model_state_dict(model, mean)
        self._run_validation(steps[-1], model, averaged=len(adapters))

    def _run_validation(self, step: int, model: PeftModel, averaged: int = 1) -> None:
        best_so_far = max((seen.log_likelihood for seen in self.curve), default=-math.inf)
        seen = self._validate(model)._replace(step=step, averaged=averaged)
        self.curve.append(seen)
        if seen.log_likelihood > best_so_far and is_first():
            model.save_pretrained(str(self._best), selected_adapters=["default"])
        # Every process validates and logs: all stop at the same step, and to log ends the step's
        # own log, for which the processes meet. One writes.
        if self.log:
            self.log({f"validation/{name}": value for name, value in seen.numbers().items()})
        if not is_first():
            return
        self._file.write_text("".join(json.dumps(s._asdict()) + "\n" for s in self.curve))
        of = f", mean of {averaged} adapters" if averaged > 1 else ""
        say(
            f"validation at step {step}{of}: log likelihood {seen.log_likelihood:.3f}, R@1 "
            f"{seen.r_at_1:.3f}, R@10 {seen.r_at_10:.3f}, mean rank {seen.mean_rank:.0f}, "
            f"similarity to target {seen.target:.3f}, to random "
            f"{seen.random:.3f}, gap {seen.gap:.3f}"
        )
