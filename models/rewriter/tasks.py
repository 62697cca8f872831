"""Task: how a kind of query is presented to the language model, and how its answer is parsed.

Training and serving both import this module, so a rewriter is trained on exactly what serves it.
Every adapter records the hash of prompt and parser.
"""

import hashlib
import inspect
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from models.rewriter.chat import ChatTemplate, Message, conversation
from models.rewriter.ratings import parse_ratings

TaskName = Literal["multilingual", "long", "composed"]  # of rewriting
# Of comparing what was found: in groups, or by the likelihood of a name or of a description.
RerankTaskName = Literal["rerank", "likelihood", "likelihood-long"]

# The engine stops at the first newline, which ends a rewrite.
STOP = "\n"


@dataclass(frozen=True)
class Task:
    """A prompt: instruction, examples as pairs of lines, then the query.

    Plain completion works for base and instruct models, and every server gets the same text. With a
    chat template it is a conversation, in which each example is a turn.
    """

    name: TaskName | RerankTaskName
    instruction: str
    labels: tuple[str, str]  # prefixes of a query and of its rewrite
    examples: tuple[tuple[str, str], ...]
    max_tokens: int  # of the rewrite
    max_chars: int  # of the query; the model does not see the rest of a longer one
    chat: ChatTemplate | None = None  # of the model; plain completion without one

    def prompt(self, query: str) -> str:
        """The text that the model continues. Line breaks in a query cannot fake an example."""
        if self.chat:
            return self.chat.prompt(self.messages(query))
        asked, answered = self.labels
        lines = [self.instruction] if self.instruction else []
        for example, rewrite in self.examples:
            lines += [f"{asked}: {example}", f"{answered}: {rewrite}"]
        return "\n".join([*lines, f"{asked}: {self._shown(query)}", f"{answered}:"])

    def messages(self, query: str) -> list[Message]:
        """The conversation that the model continues. A query cannot hold a template's marks."""
        return conversation(self.instruction, self.labels[0], self.examples, self._shown(query))

    def written(self, rewrite: str) -> str:
        """A rewrite as the model is taught to write it behind the prompt, with its end."""
        return f"{rewrite}{self.chat.end}" if self.chat else f" {rewrite}{STOP}"

    def _shown(self, query: str) -> str:
        return " ".join(unicodedata.normalize("NFC", query).split())[: self.max_chars]

    @property
    def short(self) -> "Task":
        """The prompt of a tuned model. It needs no examples and takes a tenth of the time."""
        return replace(self, instruction="", examples=())

    @property
    def hash(self) -> str:
        """Changes with the prompt, its style and template, and with the parser."""
        form = (self.messages("{query}"), self.chat.digest) if self.chat else self.prompt("{query}")
        parts = repr((self.name, form, self.max_tokens, self.max_chars))
        parser = _RATINGS_PARSER if self.name == "rerank" else _PARSER
        return hashlib.sha256((parts + parser).encode()).hexdigest()


def parse_rewrite(answer: str) -> str | None:
    """Reads the rewrite from what the model wrote; None when there is none.

    The first line, without quotes and closing marks. An answer that repeats the prompt's labels, or
    has no letter or digit in it, is no rewrite.
    """
    line = answer.lstrip().split("\n", 1)[0]
    text = " ".join(line.strip("\"'“”«»` ").split()).rstrip(" .,;:")
    if not any(character.isalnum() for character in text):
        return None
    if any(f"{label}:" in text for task in TASKS.values() for label in task.labels):
        return None
    return text


_PARSER = inspect.getsource(parse_rewrite)  # read now, because the file may change later
_RATINGS_PARSER = inspect.getsource(parse_ratings)


MULTILINGUAL = Task(
    name="multilingual",
    instruction="Dictionary of words and their English meaning.",
    labels=("Word", "English"),
    # None of these names an image of the demo gallery. They show languages, kinds of words and
    # brevity. The engine caches this shared prefix in blocks of 32 tokens. With 480 of Gemma's
    # tokens no partial block has to be computed again for each query.
    examples=(
        ("ein alter Mann liest Zeitung", "an old man reading a newspaper"),
        ("trauriges kind", "sad child"),
        ("besucher(in)", "visitor"),
        ("pequeño pájaro azul", "small blue bird"),
        ("雨の中の街", "a city in the rain"),
        ("cadre de porte", "door frame"),
        ("красные яблоки", "red apples"),
        ("bottiglia di acqua", "bottle of water"),
        ("弯曲的箭", "bent arrow"),
        ("초록색 모자", "green hat"),
        ("homem a rezar", "praying man"),
        ("kapalı kapı", "closed door"),
        ("anak tertawa", "laughing child"),
        ("قبعة حمراء", "red hat"),
        ("دختر خندان", "laughing girl"),
        ("handtuch", "towel"),
        ("緑の葉", "green leaves"),
        ("bougie allumée", "burning candle"),
        ("taza de café vacía", "empty coffee cup"),
        ("полотенце", "towel"),
        ("porta vecchia", "old door"),
        ("黑色的雨伞", "black umbrella"),
        ("우는 남자", "crying man"),
        ("seta para a frente", "arrow pointing forward"),
        ("mavi duvar", "blue wall"),
        ("jalan panjang", "long road"),
        ("طائر صغير", "little bird"),
        ("دیوار سفید", "white wall"),
        ("bäckerin", "female baker"),
        ("schrank mit zwei türen", "cupboard with two doors"),
        ("weiße wand", "white wall"),
        ("una mesa de madera", "a wooden table"),
        ("女性の店員", "female shop clerk"),
        ("gesicht mit bart", "face with a beard"),
        ("kerzenständer", "candlestick"),
        ("buchstabe x im kreis", "letter x in a circle"),
        ("zwei gläser wein", "two glasses of wine"),
        ("rotes dach", "red roof"),
    ),
    max_tokens=24,
    max_chars=240,
)

LONG = Task(
    name="long",
    instruction="Say in a few English words what the picture shows.",
    labels=("Description", "Picture"),
    examples=(
        (
            "I am looking for that photo we took last summer, where my brother stands on the beach "
            "early in the morning and holds up the big fish that he had caught",
            "a man on a beach holding a big fish",
        ),
        (
            "Ich suche ein Bild von einem Raum, in dem viele Menschen an langen Tischen sitzen und "
            "gemeinsam zu Abend essen, wahrscheinlich bei einer Feier",
            "people having dinner at long tables",
        ),
        (
            "the thing with one wheel and two handles that a gardener pushes along to carry earth "
            "in",
            "a wheelbarrow",
        ),
    ),
    max_tokens=32,
    max_chars=2000,
)

# An image in words and how the wanted one differs from it; see :func:`composed_query`.
COMPOSED = Task(
    name="composed",
    instruction="Say in a few English words what the picture shows after the change.",
    labels=("Picture and change", "New picture"),
    # None of these names an image of the demo gallery.
    examples=(
        ("red sofa / but green", "green sofa"),
        ("man reading a newspaper / als Frau", "woman reading a newspaper"),
        ("laughing child / triste", "sad child"),
        ("woman painting a wall / asleep instead", "woman asleep"),
        ("house number 3 / with the number 8", "house number 8"),
        ("road sign pointing left / 朝右", "road sign pointing right"),
        ("small drawer / the largest one", "large drawer"),
        ("lamp switched on / éteinte", "lamp switched off"),
        ("sheepdog with a red scarf / without the scarf", "sheepdog"),
        ("sleeping lamb / as a calf", "sleeping calf"),
        ("black boots / en blanco", "white boots"),
        ("girl pulling a face / smiling", "girl smiling"),
    ),
    max_tokens=24,
    max_chars=480,
)

TASKS: dict[str, Task] = {task.name: task for task in (MULTILINGUAL, LONG, COMPOSED)}

# A query with a group of candidates; see :func:`rerank_query`.
RERANK = Task(
    name="rerank",
    instruction="Rate from 0 to 9 how well each picture fits the words.",
    labels=("Words and pictures", "Ratings"),
    # None of these names an image of the demo gallery. The right picture has every place once.
    examples=(
        (
            "rotes dach / 1 red roof / 2 red apples / 3 empty coffee cup / 4 roof / 5 old door",
            "9 3 0 6 0",
        ),
        (
            "弯曲的箭 / 1 straight line / 2 bent arrow / 3 bow / 4 little bird / 5 long road",
            "2 9 4 0 1",
        ),
        (
            "mavi duvar / 1 white wall / 2 towel / 3 blue wall / 4 blue umbrella / 5 wooden table",
            "5 0 9 3 0",
        ),
        (
            "anak tertawa / 1 crying man / 2 closed door / 3 green hat / 4 laughing child / "
            "5 laughing girl",
            "2 0 0 9 7",
        ),
        (
            "bougie allumée / 1 candlestick / 2 sad child / 3 red dress / 4 praying man / "
            "5 burning candle",
            "5 0 0 0 9",
        ),
    ),
    max_tokens=12,
    max_chars=900,
)
HIGHEST = 9  # rating
GROUP = 5  # candidates in one prompt, as in the examples
_WORDS_CHARS = 240  # of the query, and half of that of a candidate


def _turned(task: Task, name: RerankTaskName, instruction: str) -> Task:
    """A task from its answers to its queries."""
    asked, answered = task.labels
    return replace(
        task,
        name=name,
        instruction=instruction,
        labels=(answered, asked),
        examples=tuple((answer, query) for query, answer in task.examples),
    )


# The rewriter's tasks turned round: from what a picture shows to the words that are typed. The
# engine caches the beginning that all prompts share in blocks of 32 tokens. Of Gemma's tokens these
# are 483 and 128, so that three at most have to be computed again for each candidate.
LIKELIHOOD = _turned(
    MULTILINGUAL,
    "likelihood",
    "Dictionary of English words and their meaning in other languages.",
)
LIKELIHOOD_LONG = _turned(
    LONG, "likelihood-long", "Say at length what the picture of this name shows."
)

RERANK_TASKS: dict[str, Task] = {task.name: task for task in (RERANK, LIKELIHOOD, LIKELIHOOD_LONG)}
SERVED_TASKS: dict[str, Task] = {**TASKS, **RERANK_TASKS}


def in_style(tasks: Mapping[str, Task], chat: ChatTemplate | None) -> dict[str, Task]:
    """The tasks with their prompts in a style. Comparing is always plain completion."""
    return {
        name: replace(task, chat=chat) if name in TASKS else task for name, task in tasks.items()
    }


def rerank_query(query: str, texts: Sequence[str]) -> str:
    """The query for a model that rates a group of candidates."""

    def shown(text: str, chars: int) -> str:
        return " ".join(text.split()).replace(" / ", " ")[:chars].rstrip()

    rated = [f"{n} {shown(text, _WORDS_CHARS // 2)}" for n, text in enumerate(texts, start=1)]
    return " / ".join([shown(query, _WORDS_CHARS), *rated])


def composed_query(caption: str, change: str) -> str:
    """The query for a model that does not see the image: its caption, and the change to it.

    If both together are too long, the caption is cut, because the change is what the user wants.
    """
    caption, change = (" ".join(text.split()).replace(" / ", " ") for text in (caption, change))
    room = max(0, COMPOSED.max_chars - len(change) - len(" / "))
    return f"{caption[:room]} / {change}"


# A longer query is a description: 0.4 % of the demo's names in 13 languages are longer, and 98 % of
# its descriptions. The unit is a Latin character. Chinese, Japanese and Korean need about a third
# of the characters for the same content.
LONG_QUERY_CHARS = 45
_DENSE_SCRIPTS_FROM = "\u1100"


def choose_task(query: str) -> Task:
    """The task for a query if the user names none."""
    length = sum(3 if character >= _DENSE_SCRIPTS_FROM else 1 for character in query)
    return LONG if length > LONG_QUERY_CHARS else MULTILINGUAL
