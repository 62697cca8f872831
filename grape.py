"""The `grape` program: finds the command and turns errors into one sentence.

Nothing heavy is imported here, so that help and typing mistakes are answered at once. It stands
above `service` and `training`, which never import each other.
"""

import importlib
import sys

COMMANDS = {
    "serve": ("service", "Serve", "the API and the web page"),
    "search": ("service", "Search", "one search from the shell"),
    "rewrite": ("service", "Rewrite", "one query, or lines from standard input, rewritten"),
    "mcp": ("service", "Mcp", "tools for agents, in front of a running server"),
    "index build": ("service", "IndexBuild", "an index of a folder of pictures"),
    "index info": ("service", "IndexInfo", "what an index holds"),
    "train": ("training", "Train", "a rewriter for an index, by where the right picture ranks"),
    "eval": ("training", "Eval", "systems compared on one set of queries, with intervals"),
    "demo prepare": (
        "service",
        "DemoPrepare",
        "fetches and converts what the embedded default needs",
    ),
}


def main() -> None:
    """Entry point of the console script."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `grape --help | head -1`
        sys.stderr.close()  # Python would complain there that it cannot write
        code = 0
    sys.exit(code)


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

    package, class_name, _ = COMMANDS[name]
    try:
        from models.common.settings import run_command

        commands = importlib.import_module(f"{package}.commands")
        run_command(getattr(commands, class_name), name, arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # an OSError that is no error: `grape rewrite ... | head -1`
        raise
    except (GrapeError, OSError) as error:
        if "--debug" in arguments:
            raise
        print(f"grape {name}: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def _help(names: list[str] | None = None) -> str:
    lines = [f"  {name:14} {COMMANDS[name][2]}" for name in names or COMMANDS]
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
