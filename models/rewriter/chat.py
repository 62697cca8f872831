"""Chat templates: how a model's own template presents a conversation.

The text that a template renders is a prompt like any other: training, serving and evaluation
tokenise it alike. An empty thought is put in front of the answer where a template offers that.
"""

import functools
import hashlib
import importlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from models.common import hub
from models.common.errors import InputError

PromptStyle = Literal["auto", "plain", "chat"]
Message = dict[str, str]  # role and content

_IN_ONE_LINE = "Answer in one line, with nothing else."  # to models that like to explain
# Of <|im_end|>, <end_of_turn>, [/INST] and the like, which a query must not hold.
_MARKS = str.maketrans(dict.fromkeys("<>[]|", " "))
_MARK = "0what1is2written3"  # stands for an answer
_DATE = "26 Jul 2024"  # Llama's template would show today's: the same query has the same answer
_SYSTEM: list[Message] = [{"role": "system", "content": "b"}]
_ROLES: list[Message] = [{"role": "user", "content": "a"}]


@dataclass(frozen=True)
class ChatTemplate:
    """A template of a model, or that of a server, which renders it there.

    Attributes:
        digest: sha256 of the source; '' if it is unknown.
        source: Jinja; '' for the template of a server.
        tokens: the special tokens that it may name.
        begins: the mark that the tokenizer puts in front of a text by itself.
        system: whether it knows a system line; otherwise the first turn begins with it.
    """

    digest: str = ""
    source: str = ""
    tokens: tuple[tuple[str, str], ...] = ()
    begins: str = ""
    system: bool = True

    @classmethod
    def of(cls, tokenizer: Any) -> "ChatTemplate | None":
        """The template of a tokenizer of transformers; None if it has none.

        Raises:
            InputError: it cannot present a question and its answer.
        """
        if not tokenizer.chat_template:
            return None
        source = tokenizer.get_chat_template()
        named = tokenizer.special_tokens_map.items()
        tokens = tuple((name, text) for name, text in sorted(named) if isinstance(text, str))
        first = tokenizer("a").input_ids[:1]
        adds = tokenizer.bos_token is not None and first == [tokenizer.bos_token_id]
        begins = tokenizer.bos_token if adds else ""
        made = cls(hashlib.sha256(source.encode()).hexdigest(), source, tokens, begins)
        try:
            made._rendered([*_SYSTEM, *_ROLES], add_generation_prompt=True)
        except _template_error():  # as Gemma 2's does
            made = replace(made, system=False)
        try:
            made._rendered(_ROLES, add_generation_prompt=True)
        except _template_error() as error:
            raise InputError(
                f"The model's chat template cannot be used ({error}): use --prompt-style plain."
            ) from error
        return made

    def prompt(self, messages: Sequence[Message]) -> str:
        """The text that the model continues with its answer. A server is sent the messages."""
        if not self.source:
            return json.dumps(messages, ensure_ascii=False)
        if not self.system and messages[0]["role"] == "system":
            first, second, *others = messages
            said = f"{first['content']}\n\n{second['content']}"
            messages = [{**second, "content": said}, *others]
        return self._rendered(messages, add_generation_prompt=True)

    @functools.cached_property
    def end(self) -> str:
        """What ends an answer."""
        turns = [*_ROLES, {"role": "assistant", "content": _MARK}]
        written = self._rendered(turns, add_generation_prompt=False)
        return written.rpartition(_MARK)[2].strip()

    def _rendered(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        rendered: Any = render_jinja_template(
            conversations=[list(messages)],
            chat_template=self.source,
            add_generation_prompt=add_generation_prompt,
            **{"enable_thinking": False, "date_string": _DATE, **dict(self.tokens)},  # type: ignore[arg-type]
        )
        (text,) = rendered[0] if isinstance(rendered, tuple) else rendered
        return str(text).removeprefix(self.begins)


def _template_error() -> type[Exception]:
    """What a template raises: Jinja's own error, or one of what is in it."""
    error: type[Exception] = importlib.import_module("jinja2").TemplateError
    return error


def conversation(
    instruction: str, label: str, examples: Sequence[tuple[str, str]], query: str
) -> list[Message]:
    """An instruction as the system line, each example as a turn, then the query."""
    turns = [{"role": "system", "content": f"{instruction} {_IN_ONE_LINE}"}] if instruction else []
    for example, rewrite in examples:
        turns.append({"role": "user", "content": f"{label}: {example}"})
        turns.append({"role": "assistant", "content": rewrite})
    asked = " ".join(query.translate(_MARKS).split())
    return [*turns, {"role": "user", "content": f"{label}: {asked}"}]


# Of a server, which has its own.
SERVERS_TEMPLATE = ChatTemplate()


def has_template(folder: Path) -> bool:
    """Whether a checkpoint has a template. Loads no tokenizer, which may take seconds."""
    own = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    if any((folder / name).exists() for name in own):
        return True
    config = folder / "tokenizer_config.json"
    return config.is_file() and bool(json.loads(config.read_bytes()).get("chat_template"))


def template_in(folder: Path) -> ChatTemplate | None:
    """The template of a checkpoint; None if it has none."""
    if not has_template(folder):
        return None
    from transformers import AutoTokenizer

    return ChatTemplate.of(AutoTokenizer.from_pretrained(folder))


def template_for(style: PromptStyle, folder: Path) -> ChatTemplate | None:
    """The template that a checkpoint is asked with in a style; None for plain completion.

    Raises:
        InputError: the style is chat, and it has none.
    """
    if style == "plain":
        return None
    return require_template(folder) if style == "chat" else template_in(folder)


def require_template(folder: Path) -> ChatTemplate:
    """The template of a checkpoint.

    Raises:
        InputError: it has none.
    """
    if template := template_in(folder):
        return template
    raise InputError(
        f"{hub.shown(str(folder))} has no chat template: use --prompt-style plain, or name its "
        "instruct version."
    )
