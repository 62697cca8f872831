"""What all commands of the `grape` program have in common."""

import os
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path

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
        protected_namespaces=(),
    )

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


def run_command(command: type[CommandSettings], name: str, arguments: list[str]) -> None:
    """Parses the flags into the command's settings and runs it.

    Raises:
        InputError: a flag, a variable or a key of the file is invalid; names the first one.
    """
    command.model_config["cli_prog_name"] = f"grape {name}"
    before = config_file.set(_config_path(arguments))
    try:
        CliApp.run(command, cli_args=arguments)
    except ValidationError as error:
        raise InputError(_first_reason(error, command)) from error
    except SettingsError as error:
        raise InputError(str(error)) from error
    finally:
        config_file.reset(before)


def _config_path(arguments: list[str]) -> Path | None:
    """The value of --config, or GRAPE_CONFIG: the file is read before the flags are parsed."""
    given = os.environ.get("GRAPE_CONFIG")
    for position, argument in enumerate(arguments):
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
