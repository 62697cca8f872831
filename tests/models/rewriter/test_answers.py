"""Answers of chat models are read or refused, and what a completion model writes is unchanged."""

import time

import pytest

from models.rewriter.answers import read_rewrite
from models.rewriter.tasks import TASKS, parse_rewrite


@pytest.mark.parametrize(
    "answer",
    [
        "house", " house\n", '"house"', "“house”", "„house“", "「house」", "'house'.", "`house`",
        "**house**", "__house__", "_house_", "***house***", "~~house~~", "# house", "### house",
        "> house", "- house", "* house", "• house", "1. house", "1) house", "(a) house",
        "- **house**", '1. **"house"**', "1. house\n2. home", "- house\n- home",
        "```\nhouse\n```", "```text\nhouse\n```", "[house](http://x.org)", "[house]",
        "<b>house</b>",
        "<think>German for house.</think>\nhouse", "<think>\n\n</think>\n\n**house**",
        "thought about it</think>house", "<THINKING>x</THINKING> house", "[THINK]x[/THINK]house",
        "<reasoning>x\ny</reasoning><answer>house</answer>", "◁think▷x◁/think▷house",
        "<|channel|>analysis<|message|>Easy.<|end|><|channel|>final<|message|>house",
        "<|im_start|>house<|im_end|>", "<s> house </s>", "[INST] house",
        '{"rewrite": "house"}', '{"language": "German", "English": "house"}', '["house", "home"]',
        '```json\n{"query": "Haus", "rewrite": "house"}\n```', '{"rewrites": [{"text": "house"}]}',
        "Translation: house", "**Answer:** house", "English meaning: house",
        "Rewritten query: house",
        "Sure! Here is the translation:\n\nhouse", "Sure, here's the English meaning: house",
        "Here is the rewrite: **house**", 'The English meaning of "Haus" is "house".',
        '"Haus" means "house"', '"house" is the translation of "Haus"', "Certainly! house",
        "The translation is house.", "The word Haus means house.", "Haus → house", "Haus -> house",
        r"\boxed{house}", r"$\boxed{\text{house}}$", "&quot;house&quot;",
        "\n\n  house  \nIt is ...",
    ],
)  # fmt: skip
def test_the_rewrite_is_found(answer: str) -> None:
    assert read_rewrite(answer) == "house"


@pytest.mark.parametrize(
    "answer",
    [
        "<think>", "<think>\nOkay, the user wants", "<think>house", "<thinking>house", "[THINK] hm",
        "<|channel|>analysis<|message|>house", "I'm sorry, but I can't help with that.",
        "I cannot translate this.", "As an AI language model, I", "Sorry, what do you mean?",
        "Sure! Here is the translation:", "Certainly!", "Okay, the user wants a translation",
        "Let me think about it", "Please provide a word.", "```", "```json", "{", '{"rewrite": "ho',
        "{}", "[]", "**", "---", "", "\n", "<br>", "English: house", "Word: house",
        "In English:",
    ],
)  # fmt: skip
def test_what_holds_no_rewrite_is_refused(answer: str) -> None:
    assert read_rewrite(answer) is None


EXAMPLES = [text for task in TASKS.values() for _, text in task.examples]


@pytest.mark.parametrize(
    "answer",
    [
        *EXAMPLES, "keycap: *", "keycap: #", "OK hand: dark skin tone", "OK button", "A button",
        "man: red hair", "flag: Côte d’Ivoire", "1st place medal", "eight-thirty", "rock & roll",
        "Japanese “here” button", "the word love is written on a wall", "I have two dogs in snow",
        "a picture of a sorry face", "great ape", "sure", "ok", "ok.", "letter x in a circle",
        "snake_case_name",
        "2 * 3 = 6", "a cat; a dog", "what is this", "caption on a wall", "thinking face",
        "it is a dog", "person: light skin tone, white hair", "C# sheet music", "$ sign",
    ],
)  # fmt: skip
def test_what_a_completion_model_writes_is_unchanged(answer: str) -> None:
    text = parse_rewrite(f" {answer}\n")
    assert text
    assert read_rewrite(f" {answer}\n") == text


@pytest.mark.parametrize(
    "piece", ["<", "<think>", "*a", "[", '"', "a -> ", "sure, the ", "</think>"]
)
def test_no_answer_takes_long_to_read(piece: str) -> None:
    started = time.perf_counter()
    read_rewrite(piece * 200_000)
    assert time.perf_counter() - started < 1
