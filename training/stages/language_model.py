"""The base model as training loads it: weights, tokenizer, LoRA, greedy answers."""

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from models.common.errors import InputError
from models.rewriter.adapter import Adapter
from models.rewriter.base_model import checkpoint_revision, find_base_model
from models.rewriter.chat import ChatTemplate, PromptStyle, template_for
from models.rewriter.tasks import STOP
from training.settings import TrainSettings

Tokenizer = PreTrainedTokenizerBase

_GREEDY_BATCH = 64


@dataclass(frozen=True)
class LanguageModel:
    """A base model: ``name`` is the user's name for it, ``path`` is where transformers finds it."""

    name: str
    path: str
    on_gpu: bool
    commit: str | None = None  # on the hub

    @classmethod
    def named(cls, name: str) -> "LanguageModel":
        """Finds the checkpoint of a base model: a demo model, a folder, or a hub name.

        Raises:
            InputError: a demo model that is not prepared, or a name that the hub does not know.
        """
        found = find_base_model(name)
        return cls(found.name, str(found.folder), torch.cuda.is_available(), found.commit)

    @cached_property
    def revision(self) -> str:
        """The hash of the checkpoint's weights."""
        return checkpoint_revision(Path(self.path))

    def chat(self, style: PromptStyle, adapter: Adapter | None = None) -> ChatTemplate | None:
        """The template that a style asks with; None for plain completion.

        Args:
            adapter: is asked as it was trained, and with 'auto' the model without it likewise.

        Raises:
            InputError: the model has none.
        """
        if adapter:
            style = adapter.prompt_style(style)
        return template_for(style, Path(self.path))

    def load(self, dtype: torch.dtype | None = None) -> PreTrainedModel:
        """The weights; by default float32 on a CPU, bfloat16 on a GPU.

        Raises:
            InputError: transformers cannot load the model.
        """
        quiet()
        dtype = dtype or (torch.bfloat16 if self.on_gpu else torch.float32)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                self.path, dtype=dtype, attn_implementation="sdpa"
            )
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"The base model {self.name} cannot be loaded: {reason}") from error
        assert isinstance(model, PreTrainedModel)
        return model

    def tokenizer(self) -> Tokenizer:
        """The tokenizer, padding on the left as generation requires."""
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(self.path, padding_side="left")
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer


def quick_dtype() -> torch.dtype:
    """bfloat16 where this machine multiplies it faster than float32."""
    able = torch.cpu.get_capabilities()
    native = torch.cuda.is_available() or able.get("avx512_bf16") or able.get("amx_bf16")
    return torch.bfloat16 if native else torch.float32


def newline_id(tokenizer: Tokenizer) -> int:
    """The id of the newline token that ends a rewrite.

    Raises:
        InputError: the tokenizer has no such token.
    """
    ids = tokenizer.encode(f"a{STOP}", add_special_tokens=False)
    if tokenizer.decode(ids[-1:]) != STOP:
        raise InputError("This model's tokenizer has no separate token for a newline.")
    return int(ids[-1])


def answer_ends(model: Any, tokenizer: Tokenizer) -> list[int]:
    """The ids of the tokens that end a rewrite: a newline, the end of a text and of a turn."""
    told = model.generation_config.eos_token_id
    ends = [newline_id(tokenizer), *(told if isinstance(told, list) else [told])]
    ends.append(tokenizer.eos_token_id)
    return [end for end in dict.fromkeys(ends) if end is not None]


def lora(settings: TrainSettings) -> LoraConfig:
    """The configuration of a new adapter."""
    targets = settings.lora_targets
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        target_modules=targets[0] if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )


def peft_model(model: Any) -> PeftModel:
    """The trained model, as TRL wrapped it."""
    assert isinstance(model, PeftModel)
    return model


@torch.inference_mode()
def greedy_answers(
    model: torch.nn.Module, tokenizer: Tokenizer, prompts: Sequence[str], max_tokens: int
) -> list[str]:
    """One greedy answer to each prompt, up to its end, in the order of the prompts."""
    was_training = model.training
    model.eval()
    stops = answer_ends(model, tokenizer)
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers = [""] * len(prompts)
    for start in range(0, len(prompts), _GREEDY_BATCH):
        rows = by_length[start : start + _GREEDY_BATCH]
        batch = tokenizer([prompts[i] for i in rows], return_tensors="pt", padding=True)
        batch = batch.to(next(model.parameters()).device)
        written = model.generate(  # type: ignore[operator]
            **batch,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
            top_p=None,
            top_k=None,
        )
        new = tokenizer.batch_decode(
            written[:, batch.input_ids.shape[1] :], skip_special_tokens=True
        )
        for row, text in zip(rows, new, strict=True):
            answers[row] = text.split(STOP)[0]
    model.train(was_training)
    return answers


def quiet() -> None:
    """Silences output of TRL, datasets and transformers that does not help to train a rewriter."""
    import datasets
    import transformers

    datasets.disable_progress_bars()
    transformers.logging.set_verbosity(logging.ERROR)
    transformers.logging.disable_progress_bar()
    logging.getLogger("trl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="(peft|trl|transformers|torch)")
