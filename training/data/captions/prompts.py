"""The prompts that have queries written: a caption, and what a person types.

They are completion prompts, as the rewriter's own, so that a base model of any size follows them as
well as one that was taught to chat. A small model needs one language at a time: of what Gemma 3
270M wrote about 40 captions in five languages, 40 % was in the asked one where examples of all
languages shared a prompt, and 93 % with a dictionary for each. So each language has its own, and
descriptions and changes are written in English first and then translated with it.
"""

from dataclasses import replace

from models.rewriter.tasks import Task
from training.data.captions.examples import ENGLISH, TRANSLATED
from training.data.captions.languages import name_of

_NAME_TOKENS, _TEXT_TOKENS = 24, 64
_MAX_CHARS = 480

DESCRIPTIONS = Task(
    name="long",
    instruction="How people who do not know the word describe a picture that they look for.",
    labels=("Picture", "Description"),
    # None of the examples of this module names a picture of the demo gallery.
    examples=(
        (
            "wheelbarrow",
            "the thing with one wheel and two handles that a gardener pushes along to carry earth",
        ),
        (
            "people having dinner at long tables",
            "a big room where many people sit together at very long tables and eat in the evening",
        ),
        (
            "stapler",
            "that small metal tool on every desk that you press down to join sheets of paper",
        ),
        (
            "man on a beach holding a big fish",
            "the photo where somebody stands by the sea and proudly shows the huge fish he caught",
        ),
        ("red roof", "I am looking for the house that is covered with bright red tiles on top"),
        (
            "curtain",
            "the long piece of cloth beside a window that you pull to keep the light out",
        ),
    ),
    max_tokens=_TEXT_TOKENS,
    max_chars=_MAX_CHARS,
)

CHANGES = Task(
    name="composed",
    instruction="What to say to get from one picture to another.",
    labels=("From and to", "Say"),
    examples=(
        ("red sofa / green sofa", "but green"),
        ("man reading a newspaper / woman reading a newspaper", "as a woman"),
        ("laughing child / sad child", "sad instead"),
        ("woman painting a wall / woman asleep", "asleep"),
        ("house number 3 / house number 8", "with the number 8"),
        ("road sign pointing left / road sign pointing right", "pointing right"),
        ("small drawer / large drawer", "a larger one"),
        ("lamp switched on / lamp switched off", "switched off"),
        ("sheepdog with a scarf / sheepdog", "without the scarf"),
        ("sleeping lamb / sleeping calf", "as a calf"),
        ("old door / new door", "but new"),
        ("girl pulling a face / girl smiling", "smiling"),
    ),
    max_tokens=_NAME_TOKENS,
    max_chars=_MAX_CHARS,
)

_OTHER_LANGUAGES = Task(
    name="multilingual",
    instruction="Dictionary of English words and their meaning in other languages.",
    labels=("English, and the language", "Word"),
    examples=tuple(
        (f"{english} / {name_of(code)}", words[place])
        for place, english in enumerate(ENGLISH)
        for number, (code, words) in enumerate(TRANSLATED.items())
        if code != "en" and (place + number) % 5 == 0
    ),
    max_tokens=_NAME_TOKENS,
    max_chars=_MAX_CHARS,
)


def translation(text: str, code: str, *, long: bool = False) -> tuple[Task, str]:
    """What has a text written in a language: the prompt, and what it is asked.

    In English that is the same in other words. A language without a dictionary of its own shares
    one whose examples are in several.

    Args:
        code: ISO 639-1.
        long: whether the text is a description.
    """
    language = str(name_of(code))
    if code in TRANSLATED:
        labels = ("Picture", "Or") if code == "en" else ("English", language)
        task = Task(
            name="multilingual",
            instruction="Pictures in other words." if code == "en"
            else f"Dictionary of English words and their meaning in {language}.",
            labels=labels,
            examples=tuple(zip(ENGLISH, TRANSLATED[code], strict=True)),
            max_tokens=_NAME_TOKENS,
            max_chars=_MAX_CHARS,
        )  # fmt: skip
        asked = _plain(text)[:_MAX_CHARS]
    else:
        task = _OTHER_LANGUAGES
        # The task would cut the language off.
        asked = f"{_plain(text)[: _MAX_CHARS - len(language) - len(' / ')]} / {language}"
    return replace(task, max_tokens=_TEXT_TOKENS) if long else task, asked


def change(reference: str, target: str) -> str:
    """What :data:`CHANGES` is asked about two captions, each cut to its half of the prompt."""
    room = (_MAX_CHARS - len(" / ")) // 2
    return f"{_plain(reference)[:room]} / {_plain(target)[:room]}"


def _plain(caption: str) -> str:
    return " ".join(caption.split()).replace(" / ", " ")
