"""Parsed answers, each once."""

import pytest

from models.rewriter.protocol import Completion
from models.rewriter.rewrites import Rewrite, usable_rewrites


def test_duplicates_add_up_and_nonsense_is_dropped() -> None:
    answers = [
        Completion(" a dog", 0.2),
        Completion(" a cat\n", 0.25),
        Completion('"a dog"', 0.1),
        Completion("!!", 0.4),
    ]
    (dog, cat) = usable_rewrites(answers)
    assert (dog.text, cat) == ("a dog", Rewrite("a cat", 0.25))
    assert dog.probability == pytest.approx(0.3)


def test_drawn_answers_count_as_their_share() -> None:
    drawn = [Completion("a dog"), Completion("a cat"), Completion("a cat"), Completion("?")]
    assert usable_rewrites(drawn) == [Rewrite("a cat", 0.5), Rewrite("a dog", 0.25)]
    assert usable_rewrites([Completion("a dog")]) == [Rewrite("a dog")]  # nobody knows
    assert usable_rewrites([]) == []
