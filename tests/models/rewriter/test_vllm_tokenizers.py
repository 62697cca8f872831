"""Engines that start one after the other share one pool of tokenizers."""

from models.rewriter.vllm_tokenizers import PoolOnce


class Tokenizer:
    def __init__(self, folder: str) -> None:
        self.name_or_path = folder


def test_a_pool_is_made_once_for_each_folder() -> None:
    made: list[tuple[str, int]] = []

    def make(tokenizer: Tokenizer, copies: int) -> Tokenizer:
        made.append((tokenizer.name_or_path, copies))
        tokenizer.__class__ = type("Pooled", (Tokenizer,), {})
        return tokenizer

    pool = PoolOnce(make)
    first, second, other = Tokenizer("a"), Tokenizer("a"), Tokenizer("b")
    pool(first, 2)
    first._vllm_space_marker_cache = "▁"  # type: ignore[attr-defined]
    assert pool(second, 2) is second
    pool(other, 2)
    assert made == [("a", 2), ("b", 2)]
    assert type(second) is type(first) is not Tokenizer
    assert type(other) is not type(first)
    assert second._vllm_space_marker_cache == "▁"  # type: ignore[attr-defined]
    assert not hasattr(other, "_vllm_space_marker_cache")
