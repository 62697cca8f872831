"""TRL's GRPO trainer, with the work that the rewrites of a group share done once.

On two cores this is what makes GRPO affordable. Sampling goes through a merged copy of the policy,
and a prompt is computed once for its group. In the update a group is one row in which equal
rewrites are computed once, and logits exist only where a rewrite's tokens are predicted. The
losses, advantages, KL term, logs and checkpoints are TRL's.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import pad
from trl import GRPOTrainer
from trl.trainer.utils import split_tensor_dict

from models.common.progress import say
from training.stages.adaptive import Adaptive, Groups, Judged, draw_in_rounds
from training.stages.decoding import Answer, Decoding
from training.stages.merged_policy import MergedPolicy
from training.stages.packing import Ids, Packed, pack
from training.stages.rollouts import likeliest_answers, sample_groups
from training.stages.token_scores import Head, TokenScores, token_scores

_NOTHING = 1e-6  # an advantage that rounding alone can make
_ATTENTION = {"full_attention", "sliding_attention"}  # what a mask can divide into answers
_SCALES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier",
           "lm_head_multiplier")  # fmt: skip


class GroupedTrainer(GRPOTrainer):  # type: ignore[misc]  # TRL has no types
    """As TRL's trainer, with two differences that :mod:`docs/decisions/training.md` explains.

    Rewrites are drawn from the 64 most probable tokens, and a backward pass holds whole groups
    instead of rewrites in random order. Texts longer than the model's sliding window cannot be
    packed and go through TRL's own method.

    Args:
        sampler: made from the policy before this trainer, which replaces the policy's ``forward``.
        likeliest: whether a group holds the policy's most probable rewrites instead of draws. The
            rewards are then given their log-probabilities too, as ``log_probability``.
        adaptive: draws a group in several rounds. The rewards are then given ``drawn_mean``, the
            mean value of all that was drawn for a query, and their sum is the advantage.
    """

    def __init__(
        self,
        sampler: MergedPolicy,
        likeliest: bool = False,
        adaptive: Adaptive | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self._sampler = sampler
        self._likeliest = likeliest
        self._adaptive = adaptive
        self._asked: list[dict[str, Any]] = []  # the rows of the last batch, one for each rewrite
        self._known: dict[str, list[float]] = {}  # of its rewrites, for the rewards
        self._rewards = torch.empty(0)  # of the rewrites of all processes, weighted and added up
        config = self.accelerator.unwrap_model(self.model).config.get_text_config()
        self._window = getattr(config, "sliding_window", None) or math.inf
        self._buffered_inputs: list[Any] | None = None
        self._teaches: Tensor | None = None  # rows of the batch that have a gradient; None: all
        self._told = False

    def _generate_single_turn(
        self, prompt_ids: list[list[int]], images: None, multimodal_fields: Any, group: int
    ) -> tuple[list[list[int]], None]:
        """Token ids of a rewrite for each prompt; TRL repeats a prompt for its group."""
        # A process may hold a part of a group: the largest size that divides both fits all of them.
        together = math.gcd(len(prompt_ids), group)
        decoding = Decoding(
            max_tokens=self.max_completion_length,
            stops=tuple(self.eos_token_ids),
            pad=self._tokenizer.pad_token_id,
            temperature=self.temperature,
        )
        prompts, model = prompt_ids[::together], self._sampler.current()
        if self._likeliest:
            groups = likeliest_answers(model, prompts, together, decoding)
            logs = [answer.log_probability for answers in groups for answer in answers]
            self._known = {"log_probability": logs}
        elif self._adaptive:
            groups = self._in_rounds(
                lambda rows: sample_groups(model, [prompts[n] for n in rows], together, decoding),
                len(prompts),
            )
        else:
            groups = sample_groups(model, prompts, together, decoding)
        return [list(answer.ids) for answers in groups for answer in answers], None

    def _in_rounds(
        self, draw: Callable[[Sequence[int]], Groups], queries: int
    ) -> list[list[Answer]]:
        """Groups with good and bad rewrites, as far as some were drawn in the rounds."""
        assert self._adaptive
        rounds, judge = self._adaptive
        size = len(self._asked) // queries

        def judged(numbers: Sequence[int], groups: Groups) -> Judged:
            ids = [answer.ids for group in groups for answer in group]
            asked = [self._asked[n * size] for n in numbers for _ in range(size)]
            return judge(self._tokenizer.batch_decode(ids, skip_special_tokens=True), asked)

        pools = draw_in_rounds(queries, rounds, draw, judged)
        self._known = {"drawn_mean": [pool.mean for pool in pools for _ in range(size)]}
        self._log_metric("adaptive/drawn", sum(len(pool.answers) for pool in pools) / queries)
        self._log_metric("adaptive/settled", sum(pool.settled for pool in pools) / queries)
        return [pool.balanced(size) for pool in pools]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        self._asked = inputs
        batch = super()._generate_and_score_completions(inputs)
        if self._adaptive:
            # TRL has subtracted the mean of the group, which is not the baseline here.
            start = self.accelerator.process_index * len(inputs)
            batch["advantages"] = self._rewards[start : start + len(inputs)]
        return batch

    def _calculate_rewards(self, inputs: list[dict[str, Any]], *others: Any) -> Any:
        given = [
            {**row, **{name: values[n] for name, values in self._known.items()}}
            for n, row in enumerate(inputs)
        ]
        rewards = super()._calculate_rewards(given, *others)
        self._rewards = (rewards * self.reward_weights.to(rewards.device)).sum(1)
        return rewards

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's, but the rewrites are not shuffled: those of a group stay together."""
        if not self.model.training:
            return super()._prepare_inputs(generation_batch)
        parts = self.args.steps_per_generation
        if self._step % (parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            self._buffered_inputs = split_tensor_dict(batch, parts)
        return self._buffered_inputs[self._step % parts]

    def _compute_loss(self, model: Any, inputs: Any) -> Tensor:
        self._teaches = self._with_gradient(inputs)
        loss: Tensor = super()._compute_loss(model, inputs)
        self._teaches = None
        return loss

    def _with_gradient(self, inputs: Any) -> Tensor | None:
        """Which rewrites have a gradient, bool ``[rewrites]``; None if all may have one.

        Without KL and entropy bonus, a rewrite whose advantage is 0 has none, and a flat group none
        at all.
        """
        needs_all = self.beta != 0 or self.top_entropy_quantile < 1
        if needs_all or self._entropy_bonus_enabled or "old_per_token_logps" in inputs:
            return None
        teaches: Tensor = inputs["advantages"].abs() > _NOTHING
        # Every process has to make a backward pass.
        teaches[0] |= ~teaches.any()
        return teaches

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None, None]:
        """float32 ``[rewrites, logits_to_keep]`` each; 0 where there is no token."""
        if input_ids.shape[1] > self._window:
            self._tell_once()
            found: tuple[Tensor, Tensor | None, None]
            found = super()._get_per_token_logps_and_entropies(
                model, input_ids, attention_mask, logits_to_keep, **options
            )
            return found
        rows = torch.arange(len(input_ids), device=input_ids.device)
        if self._teaches is not None:
            rows = rows[self._teaches]
        texts = _texts(input_ids[rows], attention_mask[rows], logits_to_keep)
        size = options.get("batch_size") or len(texts)
        parts = [
            _spread(self._packed_scores(model, texts[start : start + size]), logits_to_keep)
            for start in range(0, len(texts), size)
        ]
        logs, entropies, real = (torch.cat(part) for part in zip(*parts, strict=True))
        shape = input_ids[:, -logits_to_keep:].shape
        # What was left out has no part in the mean entropy, which TRL logs.
        mean = entropies.sum() / real.sum().clamp(min=1)
        return (
            logs.new_zeros(shape).index_put((rows,), logs),
            mean.expand(shape).index_put((rows,), entropies),
            None,
        )

    def _packed_scores(self, model: Any, texts: "_Texts") -> tuple[TokenScores, Tensor]:
        """The scores of the distinct tokens, and each rewrite's place among them."""
        prompts, answers = zip(*texts, strict=True)
        packed = pack(prompts, answers, self._tokenizer.pad_token_id).to(self.accelerator.device)
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        hidden = last_hidden_states(model, packed)
        states = hidden.flatten(0, 1)[packed.scored]
        scores = token_scores(
            states,
            packed.labels,
            Head(head.weight, self.temperature),
            learn_entropy=self._entropy_bonus_enabled,
        )
        return scores, packed.place

    def _tell_once(self) -> None:
        if not self._told:
            say("These texts cannot be packed into rows; TRL's own, slower method is used.")
        self._told = True


_Texts = list[tuple[Ids, Ids]]  # the prompt of each rewrite, and the rewrite


def _texts(ids: Tensor, mask: Tensor, answer_length: int) -> _Texts:
    """The texts of TRL's batch, in which prompts are padded on the left, rewrites on the right."""
    start = ids.shape[1] - answer_length
    return [
        (tuple(row[:start][real[:start]].tolist()), tuple(row[start:][real[start:]].tolist()))
        for row, real in zip(ids.cpu(), mask.bool().cpu(), strict=True)
    ]


def _spread(found: tuple[TokenScores, Tensor], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, entropies and which tokens are real, each ``[rewrites, length]``."""
    scores, place = found
    place = pad(place, (0, length - place.shape[1]), value=-1)
    logs, entropies = (pad(values, (0, 1))[place] for values in scores)  # -1 is the 0 at the end
    return logs, entropies, place >= 0


def last_hidden_states(model: Any, packed: Packed) -> Tensor:
    """What the output layer reads, ``[rows, length, dim]``.

    The forward pass is the whole model's, because that of a process among several shares its
    gradients there. It computes no logits.
    """
    base = next(model.parameters())
    with torch.autocast(base.device.type, torch.bfloat16, enabled=base.dtype == torch.bfloat16):
        hidden: Tensor = model(
            input_ids=packed.ids,
            position_ids=packed.positions,
            attention_mask=packed.visible,
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=packed.ids.new_empty(0),
        ).hidden_states[-1]
    return hidden


def cannot_group(policy: PeftModel) -> str | None:
    """Why :class:`GroupedTrainer` cannot train this policy; None if it can."""
    model: Any = policy.get_base_model()
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    if head.weight.requires_grad or getattr(head, "bias", None) is not None:
        return "its output layer is trained, or has a bias"
    if any(getattr(config, name, None) not in (None, 1) for name in _SCALES):
        return "its logits are scaled or capped"
    if not _ATTENTION.issuperset(getattr(config, "layer_types", None) or ()):
        return "some of its layers are no attention layers"
    if hasattr(config, "output_router_logits"):
        return "it is a mixture of experts"
    return None
