"""The `grape` program: finds the command and turns errors into one sentence.

Nothing heavy is imported here, so that help and typing mistakes are answered at once. It may import
`service` and `training`, which never import each other. Programs get the client here:
`from grape import Client`.
"""

import importlib
import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from models.client import AsyncClient, Client, ClientError

__all__ = ["AsyncClient", "Client", "ClientError", "main", "run"]

COMMANDS = {
    "serve": ("service", "Serve", "the API and the web page"),
    "search": ("service", "Search", "one search from the shell"),
    "rewrite": ("service", "Rewrite", "one query, or lines from standard input, rewritten"),
    "mcp": ("service", "Mcp", "tools for agents, in front of a running server"),
    "index build": ("service", "IndexBuild", "an index of a folder of pictures"),
    "index add": ("service", "IndexAdd", "more pictures in an index"),
    "index remove": ("service", "IndexRemove", "pictures taken out of an index, by their ids"),
    "index sync": ("service", "IndexSync", "an index brought up to date with its folder"),
    "index check": ("service", "IndexCheck", "proof that an index is whole and right"),
    "index info": ("service", "IndexInfo", "what an index holds"),
    "data from-captions": (
        "training",
        "DataFromCaptions",
        "training rows that a language model writes about captions",
    ),
    "data from-feedback": ("training", "DataFromFeedback", "training rows from what people marked"),
    "train": ("training", "Train", "a rewriter for an index, by where the right picture ranks"),
    "eval": ("training", "Eval", "systems compared on one set of queries, with intervals"),
    "completion": ("models.common", "Completion", "completion of commands and flags for a shell"),
    "doctor": ("service", "Doctor", "what the server would load, and whether that can work"),
    "demo prepare": (
        "service",
        "DemoPrepare",
        "fetches and converts what the embedded default needs",
    ),
}
# What to do about a missing package, for what can be asked of a server and for everything else.
PASS_URL = "pass the address of a running server as --url, or run `make install` in a clone"
INSTALL = "to serve, index or train, run `make install` in a clone, or use the container image"


def __getattr__(name: str) -> object:
    """Imports the client when it is first used."""
    if name in ("AsyncClient", "Client", "ClientError"):
        return getattr(importlib.import_module("models.client"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main() -> None:
    """Entry point of the console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # an encoding without these letters is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            code: object = run(sys.argv[1:])
        except SystemExit as ended:  # argparse, after it has printed help
            code = ended.code
        sys.stdout.flush()
    except BrokenPipeError:  # `grape search ... | head -1`
        # Python writes what is left once more at the end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)  # type: ignore[arg-type]


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code: 0, 1 for failed work, 2 for bad input."""
    if arguments == ["--version"]:
        from importlib.metadata import version

        print("grape", version("grape"))
        return 0
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else 2
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in COMMANDS:
            return _run(name, arguments[words:])
    group = [name for name in COMMANDS if name.split()[0] == arguments[0]]
    if group:
        asked = len(arguments) > 1 and arguments[1] in ("-h", "--help")
        print(_help(group), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    print(_unknown(arguments[0]), file=sys.stderr)
    return 2


def _run(name: str, arguments: list[str]) -> int:
    from models.common.errors import INTERRUPTED, GrapeError, InputError
    from models.common.progress import say

    try:
        from models.common.completion import Entry, commands
        from models.common.settings import run_command

        commands.set({other: Entry(*found) for other, found in COMMANDS.items()})
        run_command(Entry(*COMMANDS[name]).settings(), name, arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # an OSError that is no error: `grape rewrite ... | head -1`
        raise
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if _debugs(arguments) or missing in ("", "models", "service", "training"):
            raise
        print(f"grape {name}: {_not_installed(name, missing)}", file=sys.stderr)
        return 1
    except (GrapeError, OSError) as error:
        if _debugs(arguments):
            raise
        say(f"grape {name}: {error}")
        return 2 if isinstance(error, InputError) else 1
    return 0


def _debugs(arguments: list[str]) -> bool:
    return "--debug" in arguments[: arguments.index("--") if "--" in arguments else None]


def _not_installed(name: str, package: str) -> str:
    remedy = PASS_URL if name in ("search", "rewrite") else INSTALL
    only_client = f"`pip install .` brings only the client: {remedy}."
    return f"needs {package}, which is not installed. {only_client}"


def _help(names: list[str] | None = None) -> str:
    lines = [f"  {name:18} {COMMANDS[name][2]}" for name in names or COMMANDS]
    return "\n".join(
        [
            "usage: grape COMMAND [...]",
            "",
            "Image search that rewrites the query into a form the encoder knows.",
            "",
            *lines,
            "",
            "`grape COMMAND --help` lists a command's settings.",
        ]
    )


def _unknown(word: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, [name.split()[0] for name in COMMANDS], 1)
    hint = f"; did you mean `grape {close[0]}`?" if close else "; `grape --help` lists them."
    return f"grape: there is no command {word!r}{hint}"


if __name__ == "__main__":  # accelerate launch -m grape train ...
    main()
