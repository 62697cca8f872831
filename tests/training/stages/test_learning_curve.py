"""What a run says that it gained, and its card's tables."""

import numpy as np

from training.stages.learning_curve import LearningCurve
from training.stages.validation import Validation


def validation(step: int, log_likelihoods: list[float], averaged: int = 1) -> Validation:
    mean = float(np.mean(log_likelihoods))
    return Validation(
        step, mean, 0.25, 0.4 + step / 1000, 50, 0.3, 0.1, 0.2, averaged, log_likelihoods
    )


START = validation(0, [-5.0, -4.0, -3.0])


def test_a_gain_is_that_of_the_best_adapter_over_the_start_query_by_query() -> None:
    curve = LearningCurve([START, validation(10, [-4.5, -3.5, -2.5]), validation(20, [-5, -4, -2])])
    sentence = curve.gain()
    assert "gained +0.50 [+0.50, +0.50] over its start" in sentence  # each query gained .5
    assert "+1.0 points in R@10" in sentence
    assert sentence.endswith("step 10 is kept.")


def test_a_run_that_gains_nothing_keeps_its_start() -> None:
    curve = LearningCurve([START, validation(10, [-5.5, -4.5, -3.5]), validation(20, [-6, -4, -3])])
    assert curve.best is START
    assert curve.gain() == "GRPO gained nothing: the start is kept."


def test_an_average_may_be_the_best() -> None:
    average = validation(20, [-4.0, -3.0, -2.5], averaged=2)
    curve = LearningCurve(
        [START, validation(10, [-5, -4, -2]), validation(20, [-5, -4, -2]), average]
    )
    assert curve.gain().endswith("the mean of 2 adapters is kept.")
    assert "| the mean of 2 adapters | -3.167 |" in curve.tables()


def test_the_card_has_the_means_of_the_steps_between_validations() -> None:
    steps = [{"step": n, "reward": n / 10, "kl": 0.01, "step_time": 2.0} for n in (1, 2, 3, 4)]
    curve = LearningCurve(
        [START, validation(2, [-4, -4, -3]), validation(4, [-4, -3, -3])],
        [*steps, {"step": 4, "validation/r_at_1": 0.3}],
    )
    tables = curve.tables()
    assert "| steps | reward | KL | seconds |" in tables  # and nothing that was not logged
    assert "| 1 to 2 | 0.15 | 0.01 | 2 |" in tables
    assert "| 3 to 4 | 0.35 | 0.01 | 2 |" in tables
    assert LearningCurve().tables() == ""
