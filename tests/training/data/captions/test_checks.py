"""What is left out before anything is searched."""

import pytest

from tests.support.completions import completions
from training.data.captions.checks import (
    Duplicates,
    Written,
    is_alike,
    read_answers,
    wrong_by_itself,
)
from training.data.captions.drafts import Draft, Pictured

DOG = Pictured("dog.png", "a brown dog")
GERMAN = Draft("multilingual", "de", DOG)
LONG = Draft("long", "en", DOG)
CHANGE = Draft("composed", "en", DOG, Pictured("cat.png", "a brown cat"))


@pytest.mark.parametrize(
    ("draft", "query", "reason"),
    [
        (GERMAN, "ein brauner Hund", None),
        (GERMAN, "", "no answer"),
        (GERMAN, "A brown dog!", "the caption again"),
        (GERMAN, "a brown dogs", "the caption again"),
        (GERMAN, "the dog of my neighbour", "another language"),
        (GERMAN, "Hund " * 60, "longer than the prompt takes"),
        (
            LONG,
            "a long piece of cloth beside the window that you pull to keep the light out",
            "an example of the prompt again",
        ),
        (LONG, "the animal that barks at everybody who walks past the garden", None),
        (CHANGE, "but a dog", None),
        (CHANGE, "a brown cat", "the caption again"),
        (CHANGE, "mit einem Hund", "another language"),
    ],
)
def test_why_a_query_is_left_out(draft: Draft, query: str, reason: str | None) -> None:
    assert wrong_by_itself(Written(draft, query.strip()), ["de", "fr"]) == reason


def test_answers_are_read_as_rewrites_are() -> None:
    answers = [completions(' "ein Hund"', "ein Hund.", "\n", " der Hund", "Hund\ud83d").answers, ()]
    found = list(read_answers([GERMAN, CHANGE], answers))
    assert found == [
        Written(GERMAN, "ein Hund"), Written(GERMAN, "der Hund"), Written(CHANGE, ""),
    ]  # fmt: skip


def test_near_duplicates_are_known() -> None:
    seen = Duplicates()
    seen.add(Written(GERMAN, "brauner Hund im Garten"))
    assert seen.has(Written(GERMAN, "Brauner Hund, im Garten"))
    assert seen.has(Written(GERMAN, "brauner Hunde im Garten"))
    assert not seen.has(Written(GERMAN, "kleiner Hund"))
    # The same words for another picture would be asked for in two splits; nearly the same are not.
    other = Draft("multilingual", "de", Pictured("x.png", "a dog"))
    assert seen.has(Written(other, "brauner hund im garten"))
    assert not seen.has(Written(other, "brauner Hunde im Garten"))
    # A change is another one if it begins at another picture.
    seen.add(Written(CHANGE, "but a dog"))
    elsewhere = CHANGE._replace(reference=Pictured("cow.png", "a brown cow"))
    assert seen.has(Written(CHANGE, "but a dog!"))
    assert not seen.has(Written(elsewhere, "but a dog"))


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("elephant", "Elephant.", True), ("大象", "大象", True), ("大象", "小象", False),
        ("red heart", "rotes Herz", False), ("a small blue bird", "a small blue birds", True),
    ],
)  # fmt: skip
def test_texts_that_differ_in_a_few_letters_are_alike(one: str, other: str, alike: bool) -> None:
    assert is_alike(one, other) is alike
