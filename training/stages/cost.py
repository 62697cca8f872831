"""Arithmetic of a GRPO step: its seconds and its memory, before anything is trained.

Time is floating point operations over the rate of a plain matrix product, times what each kind of
work takes more than that, plus a constant for every layer of every pass. The rate is measured on
the machine. The other constants were fitted to three runs of the demo's 270M model on two CPU cores
(64 queries x 8 rewrites with KL, 16 x 16 without, 32 descriptions x 8); docs/grpo.md has runs that
they were not fitted to. The work is counted on rewrites that the model really wrote.

Counted are groups that are drawn in one round. Validation is not, nor is the memory of vLLM.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch

from training.stages.packing import Ids, pack

# Seconds of a kind of work per second of its plain matrix products.
_FORWARD = 1.7  # through layers with an adapter
_BACKWARD = 2.0
_SCORING = 1.1  # log-probabilities and entropies
_SCORING_GRADIENT = 1.4
_ELSE = 0.3  # seconds of a step: merging the adapter, texts, ranks, Adam
_ACTIVATION = 12  # bytes kept for the backward pass, for each input of each adapted matrix
_CHUNK = 128  # tokens whose logits exist at once, in the weights' type and twice in float32
_ROWS, _REPEATS = 512, 5  # of the product that is timed


class Shape(NamedTuple):
    """What a model's cost depends on."""

    layers: int
    matrices: Sequence[tuple[int, int]]  # inputs and outputs of each matrix of a layer
    cached: int  # numbers that a layer keeps for each token it has read
    hidden: int
    words: int
    bytes: int = 2  # of a weight
    tied: bool = True  # whether the output layer is the embeddings

    @classmethod
    def of(cls, config: Any, bytes: int = 2) -> Self:
        """Of a transformers config: attention, and an MLP with a gate."""
        hidden, inner = config.hidden_size, config.intermediate_size
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or hidden // heads
        keys = size * (getattr(config, "num_key_value_heads", None) or heads)
        attention = [(hidden, size * heads), (hidden, keys), (hidden, keys), (size * heads, hidden)]
        mlp = [(hidden, inner), (hidden, inner), (inner, hidden)]
        return cls(
            config.num_hidden_layers,
            [*attention, *mlp],
            2 * keys,
            hidden,
            config.vocab_size,
            bytes,
            config.tie_word_embeddings,
        )

    @property
    def layer_weights(self) -> int:
        """Weights of all layers; norms are left out."""
        return self.layers * sum(inputs * outputs for inputs, outputs in self.matrices)

    @property
    def head_weights(self) -> int:
        return self.hidden * self.words

    def adapter_weights(self, rank: int) -> int:
        """Of an adapter on every matrix."""
        return self.layers * rank * sum(map(sum, self.matrices))


class Machine(NamedTuple):
    """How fast a machine multiplies, and what it needs beside that."""

    layer_rate: float  # floating point operations per second, in a product with a layer's matrix
    head_rate: float  # the same with the output layer
    layer_seconds: float = 0.0065  # of a layer in a pass, however few tokens there are
    bandwidth: float = float("inf")  # bytes of weights per second, where reading them takes longer
    resident: float = 1.7e9  # bytes without a model: Python, libraries, index and encoder


class Work(NamedTuple):
    """The work of a step, counted in tokens."""

    prompt_tokens: int  # padded, each prompt once
    prompts: int
    rewrites: int
    reads: int  # of one more token of many rewrites at once
    read_tokens: int
    passes: int  # forward passes that are learnt from
    tokens: int  # of all these passes, with padding
    scored: int  # answer tokens that the loss is made of
    cached: int  # tokens in the cache when all rewrites have been written
    packed: bool  # as the grouped trainer computes; otherwise TRL's own, with vLLM's rewrites


class Cost(NamedTuple):
    """Of a step."""

    sampling: float  # seconds
    reference: float  # seconds of forward passes without a gradient: the KL term's
    update: float  # seconds
    bytes: float  # the most memory of the process, or of the card

    @property
    def seconds(self) -> float:
        return self.sampling + self.reference + self.update + _ELSE


def count_work(
    prompts: Sequence[Ids], groups: Sequence[Sequence[Ids]], groups_per_pass: int, packed: bool
) -> Work:
    """Counts a step of these prompts, each with its group of rewrites.

    Args:
        packed: as the grouped trainer computes them; otherwise a row for each rewrite.
    """
    answers = [answer for group in groups for answer in group]
    longest_prompt, longest = max(map(len, prompts)), max(map(len, answers))
    tokens = scored = 0
    starts = range(0, len(prompts), groups_per_pass)
    for start in starts:
        part = slice(start, start + groups_per_pass)
        if packed:
            each = [p for p, group in zip(prompts[part], groups[part], strict=True) for _ in group]
            rows = pack(each, [answer for group in groups[part] for answer in group], 0)
            tokens += rows.ids.numel()
            scored += len(rows.labels)
        else:
            count = sum(map(len, groups[part]))
            tokens += count * (longest_prompt + longest)
            scored += count * longest
    return Work(
        prompt_tokens=len(prompts) * longest_prompt,
        prompts=len(prompts),
        rewrites=len(answers),
        reads=longest - 1,
        read_tokens=sum(len(answer) - 1 for answer in answers),
        passes=len(starts),
        tokens=tokens,
        scored=scored,
        cached=len(answers) * (longest_prompt + longest),
        packed=packed,
    )


def step_cost(shape: Shape, work: Work, machine: Machine, kl: bool, rank: int) -> Cost:
    """Seconds and memory of a step.

    Args:
        kl: whether a reference scores the rewrites too.
        rank: of the adapter.
    """
    layers = 2 * shape.layer_weights / machine.layer_rate  # seconds of a token
    head = 2 * shape.head_weights / machine.head_rate
    per_pass = shape.layers * machine.layer_seconds
    per_read = per_pass + shape.bytes * (shape.layer_weights + shape.head_weights) / (
        machine.bandwidth
    )
    sampling = (
        (1 + work.reads) * per_read
        + (work.prompt_tokens + work.read_tokens) * layers
        + (work.prompts + work.read_tokens) * head
    )
    forward = work.passes * per_pass + work.tokens * layers * _FORWARD
    backward = 2 * work.passes * per_pass + work.tokens * layers * _BACKWARD
    scoring = work.scored * head * _SCORING
    gradient = work.scored * head * _SCORING_GRADIENT
    return Cost(
        sampling,
        # With vLLM the policy of the rollouts is scored too.
        (forward + scoring) * (kl + (not work.packed)),
        forward + scoring + gradient + backward,
        _memory(shape, work, machine, rank),
    )


def _memory(shape: Shape, work: Work, machine: Machine, rank: int) -> float:
    """Bytes. What sampling needs and what the update needs is added up: freed memory is kept."""
    copies, tables = (2 if work.packed else 1), (1 if shape.tied else 2)
    weights = shape.bytes * (copies * shape.layer_weights + tables * shape.head_weights)
    adapter = 20 * shape.adapter_weights(rank)  # float32: weights, reference, gradient, Adam's two
    cache = work.cached * shape.layers * shape.cached * shape.bytes
    sampling = (cache + work.rewrites * shape.words * shape.bytes) if work.packed else 0
    logits = _CHUNK * shape.words * (shape.bytes + 8)
    inputs = sum(inputs for inputs, _ in shape.matrices)
    activations = work.tokens / work.passes * shape.layers * inputs * _ACTIVATION
    return machine.resident + weights + adapter + sampling + logits + activations


def this_machine(shape: Shape, dtype: torch.dtype) -> Machine:
    """Measures this machine's CPU in about two seconds."""
    inputs, outputs = max(shape.matrices, key=lambda sizes: sizes[0] * sizes[1])
    return Machine(
        layer_rate=_rate(_ROWS, inputs, outputs, dtype),
        head_rate=_rate(_CHUNK, shape.hidden, shape.words, dtype),
    )


@torch.inference_mode()
def _rate(rows: int, inputs: int, outputs: int, dtype: torch.dtype) -> float:
    """Floating point operations per second of a matrix product; the median of a few."""
    states, weight = torch.randn(rows, inputs).to(dtype), torch.randn(outputs, inputs).to(dtype)
    seconds = []
    for _ in range(_REPEATS + 1):
        began = time.perf_counter()
        torch.nn.functional.linear(states, weight)
        seconds.append(time.perf_counter() - began)
    return 2 * rows * inputs * outputs / sorted(seconds[1:])[_REPEATS // 2]
