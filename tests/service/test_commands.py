"""The program from the shell: exit codes and sentences."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models.common.settings import config_file
from service.commands import Rewrite, Search
from service.settings import Settings
from tests.support.grape_server import GRAPE


def grape(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [GRAPE, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["serch"], "grape: there is no command 'serch'; did you mean `grape search`?"),
        (["index"], "usage: grape COMMAND"),
        (["search"], "query"),
        (["search", "x", "-k", "0"], "grape search: -k: Input should be greater than"),
        (["search", "x", "-k", "many"], "search: -k: Input"),
        (
            ["search", "x", "-n", "17"],
            "-n: Input should be 'auto' or a whole number from 1 to 16.",
        ),
        (["rewrite", "x", "-n", "some"], "-n: Input should be 'auto' or a whole number from 1"),
        (["serve", "--no-such-flag"], "no-such-flag"),
        (["serve", "--port", "99999"], "grape serve: --port: Input should be less than"),
        (["serve", "--config", "/no/such.yaml"], "There is no settings file /no/such.yaml."),
        (["index", "info", "/no/such"], "There is no index in /no/such: make one with"),
        (["index", "build", "/no/such", "--out", "x"], "/no/such is not a folder"),
        (["rewrite"], "there is no query"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(arguments: list[str], sentence: str) -> None:
    done = grape(*arguments)
    assert done.returncode == 2, done
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_flag_of_another_name_has_the_prefix_in_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JSON", "/usr/bin/jq")
    assert not Search(query="x").as_json
    monkeypatch.setenv("GRAPE_JSON", "1")
    monkeypatch.setenv("GRAPE_K", "7")
    told = Search(query="x")
    assert (told.as_json, told.k) == (True, 7)


@pytest.mark.parametrize(("given", "n"), [(None, "auto"), ("auto", "auto"), ("4", 4)])
def test_the_number_of_rewrites_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str | None, n: object
) -> None:
    assert Rewrite(query="x").n == 1  # one rewrite a line, unless more are asked for
    if given:
        monkeypatch.setenv("GRAPE_N", given)
        assert Rewrite(query="x").n == n
    assert Search(query="x").n == Settings().n == n
    (tmp_path / "grape.yaml").write_text(f"n: {given or 'auto'}\n")
    monkeypatch.delenv("GRAPE_N", raising=False)
    reading = config_file.set(tmp_path / "grape.yaml")
    assert Search(query="x").n == n
    config_file.reset(reading)


@pytest.mark.parametrize(
    ("missing", "arguments", "remedy"),
    [
        ("uvicorn", ["serve"], "to serve, index or train, run `make install` in a clone"),
        ("numpy", ["search", "x"], "pass the address of a running server as --url"),
        ("numpy", ["rewrite", "x"], "pass the address of a running server as --url"),
        ("PIL", ["index", "build", ".", "--out", "x"], "or use the container image."),
        ("numpy", ["train", "--index", "x", "--out", "y"], "or use the container image."),
    ],
)
def test_a_package_that_is_not_installed_is_one_sentence(
    missing: str, arguments: list[str], remedy: str
) -> None:
    program = (
        f"import sys, grape; sys.modules[{missing!r}] = None; sys.exit(grape.run({arguments}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert f"needs {missing}, which is not installed. `pip install .` brings only" in done.stderr
    assert remedy in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_module_of_our_own_is_a_bug_with_a_traceback() -> None:
    program = "import sys, grape; sys.modules['service.settings'] = None; grape.run(['serve'])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "Traceback" in done.stderr


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("command", "own"),
    [
        (
            "search",
            {
                "--image",
                "-k",
                "--rewrite",
                "--fusion",
                "-n",
                "--filter",
                "--rerank",
                "-f",
                "--images",
            },
        ),
        ("rewrite", {"--task", "-n", "--temperature"}),
    ],
)
def test_the_help_of_a_client_shows_what_a_client_needs(command: str, own: set[str]) -> None:
    shown = grape(command, "--help")
    assert shown.returncode == 0
    flags = set(re.findall(r"^  (-[-\w]+)", shown.stdout, re.M))
    client = {"-h", "--config", "--debug", "--index", "--url", "--api-key", "--json"}
    assert flags == client | own
    assert "--max-in-flight" not in shown.stdout
    assert "see `grape serve --help`" in shown.stdout


def test_the_help_of_the_server_shows_every_setting() -> None:
    shown = grape("serve", "--help").stdout
    for name in Settings.model_fields:
        assert re.search(rf"^  --?{name.replace('_', '-')}\b", shown, re.M), name


@pytest.mark.parametrize("command", ["search", "rewrite"])
def test_a_client_takes_every_setting_of_the_server(command: str, tmp_path: Path) -> None:
    bad = "--max-in-flight: Input should be greater than"
    assert bad in grape(command, "x", "--max-in-flight", "0").stderr
    assert bad in grape(command, "x", GRAPE_MAX_IN_FLIGHT="0").stderr
    config = tmp_path / "grape.yaml"
    config.write_text("max_in_flight: 0\n")
    assert bad in grape(command, "x", "--config", config).stderr


@pytest.mark.heavy
def test_failed_work_is_exit_code_1() -> None:
    done = grape("search", "x", "--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" in grape("search", "x", "--url", "http://127.0.0.1:9", "--debug").stderr


@pytest.mark.heavy
def test_a_setting_is_a_flag_a_variable_and_a_key(tmp_path: Path) -> None:
    config = tmp_path / "grape.yaml"
    config.write_text("index: /from/file\nunknwon: 1\n")
    typo = grape("search", "x", "--config", config)
    assert typo.returncode == 2
    assert "There is no setting 'unknwon'" in typo.stderr
    config.write_text("index: /from/file\nllm: none\n")
    assert "/from/file" in grape("search", "x", "--config", config).stderr
    variable = grape("search", "x", "--config", config, GRAPE_INDEX="/from/variable")
    assert "/from/variable" in variable.stderr
    flag = grape("search", "x", "--config", config, "--index", "/from/flag", GRAPE_INDEX="/v")
    assert "/from/flag" in flag.stderr


def test_serving_what_cannot_be_served_says_why_and_ends(tmp_path: Path) -> None:
    done = grape("serve", "--port", "0", "--index", tmp_path, "--llm", "none")
    assert done.returncode == 2
    assert f"grape serve: There is no index in {tmp_path}" in done.stderr


def test_a_missing_demo_names_the_command_that_prepares_it(tmp_path: Path) -> None:
    done = grape("serve", "--port", "0", "--llm", "none", GRAPE_CACHE=str(tmp_path))
    assert done.returncode == 2
    assert "run `grape demo prepare`" in done.stderr


def test_a_port_in_use_is_reported() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = grape("serve", "--port", str(port), "--llm", "none")
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken" in done.stderr


@pytest.mark.parametrize("content", [{}, {"a.txt": b"x"}])
def test_a_folder_without_pictures_is_one_sentence(
    tmp_path: Path, content: dict[str, bytes]
) -> None:
    for name, data in content.items():
        (tmp_path / name).write_bytes(data)
    done = grape("index", "build", tmp_path, "--out", tmp_path / "index")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("grape index build: ")
    assert not (tmp_path / "index").exists()
