"""The demo's long queries: descriptions that come to the point only after CLIP's 77 tokens.

    python -m training.data.demo.long_texts long.jsonl

Generated from the demo's descriptions. Each is preceded by sentences in which people explain why
they are looking for a picture, sampled from a list written by hand for this project, so that the
encoder cuts off at least half of the description. A row keeps the split of its description.
"""

import random
import sys
from pathlib import Path

from training.data.demo.names_and_descriptions import demo_rows
from training.data.rows import Row

_WORDS_BEFORE = 60  # about 75 of CLIP's tokens
_AFTER = 1  # sentences after the description

_TALK = (
    "I have been going through my collection since this morning and cannot find it anywhere.",
    "My sister sent it to me a long time ago and I would like to use it again.",
    "It must have been some weeks before the holidays that I saw it for the last time.",
    "I do not remember what it was called, and the name of the file will not help either.",
    "We want to print it on the invitation, so it should not take too long.",
    "Somebody at work asked me for it yesterday and I promised to look it up.",
    "There were a lot of others on the same page, but this is the only one that I need.",
    "I tried a few words already and got everything except what I meant.",
    "Please do not mind my way of explaining, I am writing this on the way home.",
    "It is for the next lesson, and the children will ask me about it.",
    "I am quite sure that it is in there, because I put it in myself.",
    "If there is more than one that fits, the first will do.",
    "My memory of it is not perfect, but I will try to say what I still know.",
    "The last time I looked for something like this it took me half an hour.",
    "A friend of mine used it at the end of a message and I liked it at once.",
    "I need it for a small note that goes up in the kitchen at work.",
    "Well, let me start from the beginning and tell you how I got here.",
    "It does not have to be exactly the same one as long as people understand it.",
    "I thought that I had saved it, and then the old computer broke down.",
    "So before I give up, I will write down everything that comes to my mind.",
)


def long_rows() -> list[Row]:
    """One row for each English description of the demo.

    Raises:
        InputError: the demo is not prepared.
    """
    described = [row for row in demo_rows() if row.task == "long" and row.language == "en"]
    return [
        row.model_copy(update={"query": _at_length(row.query, number)})
        for number, row in enumerate(described)
    ]


def _at_length(description: str, seed: int) -> str:
    talk = random.Random(seed).sample(_TALK, len(_TALK))
    before: list[str] = []
    while len(" ".join(before).split()) < _WORDS_BEFORE:
        before.append(talk.pop())
    return " ".join([*before, f"{description.rstrip('.')}.", *talk[:_AFTER]])


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m training.data.demo.long_texts OUT.jsonl")
    lines = "".join(row.model_dump_json() + "\n" for row in long_rows())
    Path(sys.argv[1]).write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
