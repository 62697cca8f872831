"""Answers as a rewriter gives them."""

from models.rewriter.protocol import Completion, Completions


def completions(*texts: str, probability: float | None = None) -> Completions:
    """These texts, all of the same probability."""
    return Completions([Completion(text, probability) for text in texts])
