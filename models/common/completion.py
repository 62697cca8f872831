"""`grape completion`: what a shell may offer at each place of a command, from its settings.

The scripts are written by shtab from argparse's parsers, which pydantic-settings makes of the
settings: a new flag is offered without another line of code.
"""

import importlib
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import AliasChoices, Field
from pydantic_settings import CliPositionalArg, CliSettingsSource

from models.common.settings import CommandSettings


class Entry(NamedTuple):
    """A command of the program: where its settings class is, and what it is for."""

    package: str  # whose module `commands` has the class
    class_name: str
    about: str

    def settings(self) -> type[CommandSettings]:
        """The settings class. Raises ModuleNotFoundError if a package of it is not installed."""
        module = importlib.import_module(f"{self.package}.commands")
        found: type[CommandSettings] = getattr(module, self.class_name)
        return found


# Every command by its name; the program sets it.
commands: ContextVar[Mapping[str, Entry]] = ContextVar("commands")


class Completion(CommandSettings):
    """Prints what makes a shell complete commands, flags and values; for bash, zsh or fish."""

    shell: CliPositionalArg[Literal["bash", "zsh", "fish"]] = Field(description="the shell")

    def cli_cmd(self) -> None:
        import shtab

        parser = program_parser(commands.get())
        _hide_free_text(parser)
        print(shtab.complete(parser, self.shell))


def program_parser(table: Mapping[str, Entry]) -> ArgumentParser:
    """One parser of the whole program. Commands whose packages are not installed have no flags."""
    root = ArgumentParser("grape", description="Image search that rewrites queries.")
    root.add_argument("--version", action="store_true", help="show the version")
    top = root.add_subparsers(dest="command")
    groups: dict[str, Any] = {}
    for name, entry in table.items():
        *group, word = name.split()
        place = top
        if group:
            if group[0] not in groups:
                about = ", ".join(
                    other.split()[-1] for other in table if other.split()[:1] == group
                )
                groups[group[0]] = top.add_parser(group[0], help=about).add_subparsers(dest="part")
            place = groups[group[0]]
        parser = place.add_parser(word, help=entry.about)
        try:
            settings = entry.settings()
        except ModuleNotFoundError:  # `pip install .` brings only the client
            continue
        fill(parser, settings)
    return root


def fill(parser: ArgumentParser, settings: type[CommandSettings]) -> None:
    """Adds the flags of a command to its parser, with what may be typed after each of them."""
    import shtab

    CliSettingsSource(settings, root_parser=parser)
    # pydantic checks values itself, and tells argparse none.
    types = dict(_types(settings))
    for action in visible(parser):
        if words := _words(types.get(action.dest)):
            action.choices = words
        elif _has_path(types.get(action.dest)):
            action.complete = shtab.FILE  # type: ignore[attr-defined]


def visible(parser: ArgumentParser) -> list[Action]:
    """The arguments that the help of a command shows."""
    return [action for action in parser._actions if action.help != SUPPRESS]


def _hide_free_text(parser: ArgumentParser) -> None:
    """Hides arguments such as a query: zsh offers no flag where one may stand that is unknown."""
    for action in visible(parser):
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                _hide_free_text(inner)
        elif not (action.option_strings or action.choices or hasattr(action, "complete")):
            action.help = SUPPRESS


def _types(settings: type[CommandSettings]) -> Iterator[tuple[str, Any]]:
    """The type of each argument, by its name on the command line."""
    for name, field in settings.model_fields.items():
        aliases = field.validation_alias
        for own in aliases.choices if isinstance(aliases, AliasChoices) else [name]:
            yield str(own), field.annotation


def _words(annotation: Any) -> list[str]:
    """The words that a setting may be, such as those of a Literal in a list."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for inner in get_args(annotation) for word in _words(inner)]


def _has_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_has_path, get_args(annotation)))
