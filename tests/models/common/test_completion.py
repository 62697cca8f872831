"""`grape completion`: what real shells offer at the places of a command."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grape import COMMANDS
from models.common.completion import Entry, program_parser, visible
from tests.support.grape_server import GRAPE

TABLE = {name: Entry(*found) for name, found in COMMANDS.items()}
# What is typed, and what may stand there: all of it, or some of it.
OFFERED = [
    ("grape ser", {"serve"}),
    ("grape index ", {"build", "add", "remove", "sync", "check", "info"}),
    ("grape data from-", {"from-captions", "from-feedback"}),
    ("grape search --re", {"--rewrite", "--rerank"}),
    ("grape search --rewrite ", {"auto", "always", "never"}),
    ("grape serve --log-format ", {"text", "json"}),
    ("grape train --objective ", {"mixture", "rank", "relative", "pass_at_k"}),
    ("grape data from-captions --lang", {"--languages"}),
    ("grape completion ", {"bash", "zsh", "fish"}),
    ("grape doctor --max-in", {"--max-in-flight"}),
    ("grape search --max-in", set[str]()),  # a setting of the server, which the help leaves out
    ("grape index info ho", {"home"}),  # a folder, in the folder of the test
    ("grape search --image pho", {"photo.png"}),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts, and something to complete."""
    made = tmp_path_factory.mktemp("shells")
    (made / "home").mkdir()
    (made / "photo.png").touch()
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run([GRAPE, "completion", shell], capture_output=True, check=True)
        (made / f"script.{shell}").write_bytes(done.stdout)
    return made


def in_shell(shell: str, program: str, folder: Path) -> str:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    flags = ["--norc"] if shell == "bash" else ["-f"] if shell == "zsh" else ["--no-config"]
    done = subprocess.run(
        [shell, *flags, "-c", program], capture_output=True, text=True, cwd=folder, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("typed", "offered"), OFFERED)
def test_bash(typed: str, offered: set[str], folder: Path) -> None:
    words = typed.split(" ")
    before, word = words[-2], words[-1]
    array = " ".join(f"'{one}'" for one in words)
    program = (
        f"source script.bash; COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; "
        f"_shtab_grape grape '{word}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    found = {line.strip("/") for line in in_shell("bash", program, folder).splitlines() if line}
    assert found == offered


@pytest.mark.parametrize(("typed", "offered"), OFFERED)
def test_fish(typed: str, offered: set[str], folder: Path) -> None:
    told = in_shell("fish", f'source script.fish; complete -C "{typed}"', folder)
    found = {line.split("\t")[0].strip("/") for line in told.splitlines()}
    assert found == offered


def test_zsh_reads_the_script_and_knows_whose_it_is(folder: Path) -> None:
    program = (
        "mkdir -p f; cp script.zsh f/_grape; fpath=($PWD/f $fpath); "
        "autoload -Uz compinit; compinit -u -d $PWD/dump; print $_comps[grape]"
    )
    assert in_shell("zsh", program, folder).strip() == "_grape"
    assert "{auto,always,never}:(auto always never)" in (folder / "script.zsh").read_text()


def test_the_commands_of_the_page(folder: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "clients.md").read_text()
    (block,) = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    home = folder / "home"
    program = block.replace(".venv/bin/grape", str(GRAPE))
    subprocess.run(["sh", "-ec", program], check=True, env={**os.environ, "HOME": str(home)})
    made = [".local/share/bash-completion/completions/grape", ".zfunc/_grape",
            ".config/fish/completions/grape.fish"]  # fmt: skip
    for name, shell in zip(made, ("bash", "zsh", "fish"), strict=True):
        assert (home / name).read_text() == (folder / f"script.{shell}").read_text()


def test_every_command_is_in_it(folder: Path) -> None:
    root = program_parser(TABLE)
    script = (folder / "script.bash").read_text()
    for name in TABLE:
        parser = root
        for word in name.split():
            (choices,) = (a.choices for a in parser._actions if isinstance(a.choices, dict))
            parser = choices[word]
        for action in visible(parser):
            for flag in action.option_strings:
                assert flag in script


def test_the_client_alone_completes_its_commands() -> None:
    """`pip install .` brings no numpy; the commands that need it have no flags then."""
    program = (
        "import sys, grape\n"
        "for name in ('numpy', 'torch', 'PIL', 'faiss', 'psutil', 'fastapi', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        "assert grape.run(['search', 'x', '--url', 'http://127.0.0.1:9']) == 1\n"
        "assert grape.run(['completion', 'bash']) == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cannot be reached" in done.stderr
    assert "--rerank" in done.stdout
    assert "doctor" in done.stdout


def test_another_shell_is_one_sentence() -> None:
    done = subprocess.run([GRAPE, "completion", "cmd"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Input should be 'bash', 'zsh' or 'fish'" in done.stderr
