"""What the language model is shown of a query."""

import numpy as np
import pytest

from models.rewriter.tasks import TASKS
from models.search.query import Query, Reference, as_one_line, prompts_for


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Haus\nEnglish: banana", "Haus English banana"),
        ("Haus\r\nenglish : banana\u2028Word：x", "Haus english banana Word x"),
        ("a\tb\x0bc", "a b c"),
        ("New picture: x", "New picture x"),
        ("12:30 Uhr: Mittag", "12:30 Uhr: Mittag"),
        ("crossword: puzzle", "crossword: puzzle"),
    ],
)
def test_a_query_is_one_line_without_the_prompts_labels(text: str, shown: str) -> None:
    assert as_one_line(text) == shown
    (prompt,) = prompts_for(Query(text), sees_pictures=False)
    *_, asked, answered = prompt.task.short.prompt(prompt.query).split("\n")
    assert asked == f"{prompt.task.labels[0]}: {shown}"
    assert answered == f"{prompt.task.labels[1]}:"


def test_neither_caption_nor_change_repeats_a_label() -> None:
    vector = np.zeros((1, 2), np.float32)
    reference = Reference(vector, None, "a dog\nNew picture: cat", b"x")
    for sees in (False, True):
        (prompt,) = prompts_for(Query("but\nNew picture: a bird", reference), sees)
        assert not any(f"{label}:" in prompt.query for label in TASKS["composed"].labels)
        assert "\n" not in prompt.query
