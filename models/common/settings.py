"""What all commands of the `grape` program have in common."""

import os
import shlex
from collections.abc import Mapping
from contextvars import ContextVar
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    CliApp,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    YamlConfigSettingsSource,
)

from models.common.errors import InputError
from models.common.text_output import harmless

_UNKNOWN = "unrecognized arguments: "  # by argparse

# The --config file is read before the flags are parsed; run_command sets it.
config_file: ContextVar[Path | None] = ContextVar("config_file", default=None)


class CommandSettings(BaseSettings):
    """Base of every command. A flag overrides a variable, a variable overrides the file."""

    model_config = SettingsConfigDict(
        env_prefix="GRAPE_",
        extra="ignore",  # the file may hold settings of other commands
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,  # argparse would print every flag before the reason
        cli_parse_none_str="-",  # not "None", which is a query
        protected_namespaces=(),
    )

    # Flags that may stand without a number, and the value that they have then.
    bare: ClassVar[Mapping[str, str]] = {}

    config: Path | None = Field(None, description="YAML file with any of these settings")
    debug: bool = Field(False, description="show the traceback of an error")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(env_settings, EnvSettingsSource)
        given = {k: v for k, v in env_settings.env_vars.items() if k.startswith("grape_")}
        # A field with an alias on the command line (--json) has no prefix, and a variable named
        # JSON that belongs to another program must not set it.
        env_settings.env_vars = {k.removeprefix("grape_"): v for k, v in given.items()} | given
        from_file = YamlConfigSettingsSource(settings_cls, yaml_file=config_file.get())
        return init_settings, env_settings, from_file


class PlanSettings(CommandSettings):
    """A command that can say what it would load, instead of loading it."""

    plan: bool = Field(
        False,
        description="only say what would be loaded, from where, and whether it fits; load and "
        "fetch nothing",
    )
    plan_as_json: bool = Field(False, validation_alias="json", description="print --plan as JSON")


def run_command(command: type[CommandSettings], name: str, arguments: list[str]) -> None:
    """Parses the flags into the command's settings and runs it.

    Raises:
        InputError: a flag, a variable or a key of the file is invalid; names the first one.
    """
    command.model_config["cli_prog_name"] = f"grape {name}"
    before = config_file.set(_config_path(arguments))
    try:
        CliApp.run(command, cli_args=_with_values(arguments, command.bare))
    except ValidationError as error:
        raise InputError(_first_reason(error, command)) from error
    except SettingsError as error:
        raise InputError(_usage_reason(str(error), command, name, arguments)) from error
    finally:
        config_file.reset(before)


def _with_values(arguments: list[str], bare: Mapping[str, str]) -> list[str]:
    """The arguments, with a value for each flag that stands without a number."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [
        f"{argument}={bare[argument]}"
        if place < end
        and argument in bare
        and not "".join(arguments[place + 1 : place + 2]).isdecimal()
        else argument
        for place, argument in enumerate(arguments)
    ]


def _config_path(arguments: list[str]) -> Path | None:
    """The value of --config, or GRAPE_CONFIG: the file is read before the flags are parsed."""
    given = os.environ.get("GRAPE_CONFIG")
    for position, argument in enumerate(arguments):
        if argument == "--":  # what follows is a query
            break
        if argument.startswith("--config="):
            given = argument.removeprefix("--config=")
        elif argument == "--config" and position + 1 < len(arguments):
            given = arguments[position + 1]
    if given is None:
        return None
    if not Path(given).is_file():
        raise InputError(f"There is no settings file {given}.")
    return Path(given)


def _first_reason(error: ValidationError, command: type[CommandSettings]) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        close = get_close_matches(name, list(command.model_fields), 1)
        return f"There is no setting {name!r}" + (f"; did you mean {close[0]!r}?" if close else ".")
    if first["type"] == "missing":
        return f"{name} is missing; `--help` says what it is."
    dashes = "-" if len(name) == 1 else "--"
    reason = first["msg"].removeprefix("Value error, ")
    return f"{dashes}{name.replace('_', '-')}: {reason}."


def _usage_reason(
    message: str, command: type[CommandSettings], name: str, arguments: list[str]
) -> str:
    """What to type instead, for arguments that cannot be parsed."""
    message = message.removeprefix("error parsing CLI: ")
    if not message.startswith(_UNKNOWN):
        return (
            f"{harmless(message.removeprefix('argument '))}; `grape {name} --help` lists the flags."
        )
    unknown = message.removeprefix(_UNKNOWN)
    first = harmless(unknown.split(" ")[0])
    flags = [f"{'-' if len(field) == 1 else '--'}{field}" for field in command.model_fields]
    flags = [flag.replace("_", "-") for flag in flags] + ["--json"]
    close = get_close_matches(first, flags, 1) if first.startswith("--") else []
    if close:
        return f"there is no flag {first}; did you mean {close[0]}?"
    if "query" in command.model_fields:
        typed = list(takewhile(lambda word: word.split("=")[0] not in flags, arguments))
        query = " ".join(typed if first in typed else [*typed, unknown])
        if first.startswith("-"):
            return f"there is no flag {first}; to search for it: grape {name} -- {_quoted(query)}"
        return f"a query of several words needs quotes: grape {name} {_quoted(query)}"
    what = f"flag {first}" if first.startswith("-") else f"place for {_quoted(unknown)}"
    return f"there is no {what}; `grape {name} --help` lists the arguments."


def _quoted(words: str) -> str:
    words = harmless(words)
    return shlex.quote(words) if set(words) & set('"$`\\!') else f'"{words}"'
