"""The arithmetic of a step: its counts by hand, and what its seconds and bytes grow with."""

import pytest
import torch
from transformers import Gemma3TextConfig

from tests.support.tiny_gemma import tiny_gemma
from training.stages.cost import Machine, Shape, count_work, step_cost, this_machine
from training.stages.expected_cost import sentence

PROMPTS = [(1, 2, 3), (4, 5, 6, 7, 8)]
GROUPS = [[(10, 11), (10, 11), (12, 13, 14)], [(10, 11, 12, 13), (20, 21), (22,)]]
SHAPE = Shape(layers=2, matrices=[(8, 4), (4, 8)], cached=4, hidden=8, words=100)


def test_a_models_weights_are_counted() -> None:
    model = tiny_gemma()
    shape = Shape.of(model.config, bytes=4)
    layers = model.get_decoder().layers
    matrices = [m for m in layers.modules() if isinstance(m, torch.nn.Linear)]
    assert shape.layer_weights == sum(matrix.weight.numel() for matrix in matrices)
    assert shape.head_weights == model.lm_head.weight.numel()
    assert shape.adapter_weights(4) == sum(4 * sum(matrix.weight.shape) for matrix in matrices)
    plain = Gemma3TextConfig(hidden_size=32, num_attention_heads=4, head_dim=8, vocab_size=7)
    assert Shape.of(plain).words == 7


def test_the_work_of_a_step_is_counted() -> None:
    work = count_work(PROMPTS, GROUPS, groups_per_pass=1, packed=True)
    assert (work.prompts, work.prompt_tokens, work.rewrites, work.passes) == (2, 10, 6, 2)
    assert (work.reads, work.read_tokens) == (3, 8)
    # Rows: the prompt, and the distinct rewrites without their last tokens.
    assert work.tokens == (3 + 1 + 2) + (5 + 3 + 1 + 0)
    assert work.scored == (2 + 3) + (4 + 2 + 1)
    together = count_work(PROMPTS, GROUPS, groups_per_pass=2, packed=True)
    assert (together.passes, together.tokens, together.scored) == (1, 2 * 9, work.scored)
    alone = count_work(PROMPTS, GROUPS, groups_per_pass=2, packed=False)
    assert (alone.tokens, alone.scored) == (6 * (5 + 4), 6 * 4)


def test_time_is_operations_over_the_rate() -> None:
    work = count_work(PROMPTS, GROUPS, 2, packed=True)
    fast = Machine(1e9, 1e9, layer_seconds=0)
    cost = step_cost(SHAPE, work, fast, kl=True, rank=2)
    per_token = 2 * 2 * (8 * 4 + 4 * 8) / 1e9
    per_word = 2 * 8 * 100 / 1e9
    assert cost.sampling == pytest.approx((10 + 8) * per_token + (2 + 8) * per_word)
    assert cost.reference > 0
    slow = step_cost(SHAPE, work, Machine(1e8, 1e8, layer_seconds=0), kl=True, rank=2)
    assert slow.sampling == pytest.approx(10 * cost.sampling)
    assert slow.update == pytest.approx(10 * cost.update)
    without = step_cost(SHAPE, work, fast, kl=False, rank=2)
    assert (without.reference, without.update) == (0, cost.update)
    waiting = step_cost(SHAPE, work, Machine(1e9, 1e9, layer_seconds=1.0), kl=True, rank=2)
    assert waiting.sampling - cost.sampling == pytest.approx((1 + 3) * 2)


def test_memory_grows_with_what_a_pass_holds() -> None:
    machine = Machine(1e9, 1e9, resident=0)
    one, two = (
        step_cost(SHAPE, count_work(PROMPTS, GROUPS, size, packed=True), machine, True, 2).bytes
        for size in (1, 2)
    )
    tokens = 18 - 15 / 2  # of the largest pass, and of the mean one
    assert two - one == pytest.approx(tokens * 2 * (8 + 4) * 12)


def test_a_machine_is_measured_and_the_sentence_weighs_kinds_of_steps() -> None:
    machine = this_machine(SHAPE, torch.float32)
    assert machine.layer_rate > 1e6
    assert machine.head_rate > 1e6
    work = count_work(PROMPTS, GROUPS, 2, packed=True)
    slow = step_cost(SHAPE, work, Machine(1e9, 1e9, layer_seconds=10.0), kl=False, rank=2)
    fast = step_cost(SHAPE, work, Machine(1e9, 1e9, layer_seconds=0.0), kl=False, rank=2)
    mean = 0.25 * slow.seconds + 0.75 * fast.seconds
    said = sentence([slow, fast], [1, 3], steps=60)
    assert f"about {mean:.0f} s a step" in said
    assert f"{mean:.0f} minutes for 60 steps" in said
