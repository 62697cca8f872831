"""One pool of tokenizers for all engines of a process, and the tokens that end a line.

vLLM makes deep copies of the tokenizer for each engine that starts. With 262,144 words that takes
seconds, and Python's lock is held meanwhile: no request is answered.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from models.rewriter.tasks import STOP

_MARKER = "_vllm_space_marker_cache"  # what vLLM has found out about a tokenizer, and keeps in it


class PoolOnce:
    """Stands in for vLLM's ``maybe_make_thread_pool``, which gives a tokenizer a pooled class.

    The pool belongs to that class, so that a second tokenizer of the same folder can have it too.
    """

    def __init__(self, make_pool: Callable[[Any, int], Any]) -> None:
        self._make_pool = make_pool
        self._first: dict[str, Any] = {}

    def __call__(self, tokenizer: Any, copies: int = 1) -> Any:
        first = self._first.get(tokenizer.name_or_path)
        if first is None:
            made = self._make_pool(tokenizer, copies)
            self._first[tokenizer.name_or_path] = tokenizer
            return made
        tokenizer.__class__ = first.__class__
        if hasattr(first, _MARKER):
            setattr(tokenizer, _MARKER, getattr(first, _MARKER))
        return tokenizer


def share_tokenizers() -> None:
    """Makes the engines that start from now on share their tokenizers. Imports vLLM."""
    hf: Any = importlib.import_module("vllm.renderers.hf")
    if not isinstance(hf.maybe_make_thread_pool, PoolOnce):
        hf.maybe_make_thread_pool = PoolOnce(hf.maybe_make_thread_pool)


def line_ends(tokenizer: Any) -> list[int]:
    """The ids of all tokens with a line break, at which a rewrite ends."""
    # As vocabularies write it: as it is, as a byte of BPE, as a byte for want of a token.
    maybe = sorted(
        token
        for text, token in tokenizer.get_vocab().items()
        if STOP in text or "\u010a" in text or text == "<0x0A>"
    )
    return [token for token in maybe if STOP in tokenizer.decode([token])]


def answer_ends(tokenizer: Any, generation: Mapping[str, Any]) -> frozenset[int]:
    """The ids of all tokens that end an answer.

    Args:
        generation: the model's generation_config, which names the end of a turn of a chat.
    """
    told = generation.get("eos_token_id") or []
    turn_ends = [told] if isinstance(told, int) else told
    return frozenset([*tokenizer.all_special_ids, *line_ends(tokenizer), *turn_ends])
