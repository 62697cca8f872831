"""Writes docs/commands.md from the settings of the commands: `python -m tools.commands_page`."""

import inspect
import re
from argparse import Action
from pathlib import Path

from grape import COMMANDS
from models.common.completion import Entry, program_parser, visible

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
HEAD = """\
# Commands

<!-- Made by `python -m tools.commands_page` from the settings: change their descriptions. -->

`grape COMMAND --help` shows the same. Every flag is also a key of the YAML file in `--config`, with
underscores for hyphens, and a variable: `--llm-endpoint` is `llm_endpoint` and
`GRAPE_LLM_ENDPOINT`. A flag overrides a variable, a variable overrides the file. A flag without a
value has a twin that begins with `--no-`. A list is comma-separated. The exit code is 0, 1 for work
that failed, 2 for input that cannot be used, and 130 after Ctrl-C.
"""
SHARED = ("-h", "--config", "--debug")  # of every command


def page() -> str:
    """The whole page."""
    entries = {name: Entry(*found) for name, found in COMMANDS.items()}
    root = program_parser(entries)
    parts = [HEAD, _contents(entries)]
    for name, entry in entries.items():
        parser = root
        for word in name.split():
            (subparsers,) = (a for a in parser._actions if isinstance(a.choices, dict))
            parser = subparsers.choices[word]  # type: ignore[index]
        arguments = [a for a in visible(parser) if not set(SHARED) & set(a.option_strings)]
        about = inspect.cleandoc(entry.settings().__doc__ or "")
        parts += [f"## grape {name}\n\n{about}\n", _table(arguments)]
    return "\n".join(parts)


def _contents(entries: dict[str, Entry]) -> str:
    rows = [
        f"| [`grape {name}`](#grape-{name.replace(' ', '-')}) | {entry.about} |"
        for name, entry in entries.items()
    ]
    return "\n".join(["| | |", "|---|---|", *rows, ""])


def _table(arguments: list[Action]) -> str:
    rows = ["| | | Default |", "|---|---|---|"]
    for action in arguments:
        flags = [flag for flag in action.option_strings if not flag.startswith("--no-")]
        value = _value(action)
        shown = ", ".join(flags) + (f" {value}" if flags and value else "") if flags else value
        about, default = _help(action.help or "")
        rows.append(f"| `{shown}` | {about} | {default} |".replace("|  |", "| |"))
    return "\n".join([*rows, ""])


def _value(action: Action) -> str:
    """What stands after a flag, or in the place of an argument; nothing after a switch."""
    if action.nargs == 0:
        return ""
    if action.option_strings and action.choices:
        number = ["N"] if re.search(r"\bint\b", str(action.metavar)) else []
        return "\\|".join([*map(str, action.choices), *number])
    if not action.option_strings:
        name = str(action.metavar or action.dest).upper()
        return f"[{name}]" if action.nargs == "?" else name
    kinds = {"int": "N", "float": "X", "Path": "PATH", "bool": "true\\|false"}
    return kinds.get(str(action.metavar), "VALUE")


def _help(text: str) -> tuple[str, str]:
    """The description, and the default, which pydantic-settings puts behind it."""
    found = re.fullmatch(r"(.*?) ?\((?:default: (.*)|(required))\)", text, re.DOTALL)
    about, default, required = found.groups() if found else (text, None, None)
    about = re.sub(r"(?<=\S)\|(?=\S)", "\\|", about.strip())
    if required:
        return about, "required"
    return about, "" if default in (None, "-", "False", "()", "[]", "{}") else f"`{default}`"


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
