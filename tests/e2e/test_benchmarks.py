"""The benchmarks run, on little data. Whether their numbers hold, only a quiet machine can tell."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import bench, chaos, evaluate, hostile, mixture, mixture_ways, start, traffic
from benchmarks.mixture import CLIENTS
from models.common.paths import ADAPTER
from tests.support.grape_server import Server


def run(module: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *flags],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_ranking() -> None:
    assert "plain matrix product" in run(
        "rank", "--images", "20000", "--dim", "64", "--texts", "32"
    )


@pytest.mark.slow
def test_inflation(tmp_path: Path) -> None:
    """One step of GRPO with the real model and the shipped adapter."""
    flags = ["--steps", "1", "--rewards", "similarity", "--validated", "12"]
    printed = run("inflation", str(ADAPTER), *flags, "--work", str(tmp_path))
    before, after = (
        line for line in printed.splitlines() if line.startswith(("| before", "| `sim"))
    )
    assert before.split("|")[2:] != after.split("|")[2:]


@pytest.mark.slow
def test_rows_from_captions_against_real_names(tmp_path: Path) -> None:
    """The shipped adapter in both places: the differences between the two are 0."""
    flags = ["--limit", "2", "--languages", "de", "--work", str(tmp_path)]
    printed = run("own_data", str(ADAPTER), *flags)
    (german,) = (line for line in printed.splitlines() if line.startswith("| names in de |"))
    assert german.endswith("| +0.000 [+0.000, +0.000] |")
    assert "| English descriptions | 2 |" in printed


def test_a_figure_knows_its_bar_and_what_got_slower() -> None:
    share = bench.Figure("share", 0.8, 0.9, at_least=True)
    times = bench.Figure("times", 4.0, 5.0, at_least=False)
    assert (share.holds, times.holds) == (False, True)
    assert share.row() == "| share | 0.80 | at least 0.9 | **no** |"
    assert bench.slower_than({"share": 0.85, "times": 3.9}, [share, times]) == []
    told = bench.slower_than({"share": 0.95, "times": 2.0}, [share, times])
    assert told == [
        "worse: share: 0.95 before, 0.80 now",
        "worse: times: 2.00 before, 4.00 now",
    ]


def test_nothing_is_measured_on_a_busy_machine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench"])
    monkeypatch.setattr("psutil.cpu_percent", lambda _: 60.0)
    assert bench.main() == 1
    assert "Other programs use 60 % of this machine" in capsys.readouterr().err


def test_the_mixed_workload_is_what_it_says() -> None:
    rows = traffic.mixed()
    assert len(rows) == traffic.QUERIES
    english = {row.query for row in traffic.english_names()}
    assert sum(row.query in english for row in rows) >= traffic.QUERIES // 2
    repeats = len(rows) - len({row.query for row in rows})
    assert repeats >= traffic.QUERIES * traffic.REPEATS


@pytest.mark.slow
def test_traffic_and_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, few in {"QUERIES": 20, "PLAIN": 20, "REWRITING": 2}.items():
        monkeypatch.setattr(traffic, name, few)
    default, always, plain = asyncio.run(traffic.measure())
    assert default.seconds < always.seconds
    assert 0 < plain.alone_p50 < plain.beside_p99
    monkeypatch.setattr(start, "ROUNDS", 1)
    starts = start.measure()
    assert starts.demo.as_typed_s < starts.demo.rewritten_s
    assert starts.demo.gib > starts.engine.gib > starts.encoder.gib > 0


def test_evaluating_without_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "--queries", "60"])
    evaluate.main()
    assert "60 queries, 1,625 pictures" in capsys.readouterr().out


@pytest.fixture(scope="module")
def hostile_pictures() -> list[hostile.Hostile]:
    """Takes half a minute, because the bombs are large before they are compressed."""
    return hostile.corpus()


@pytest.mark.slow  # tests/models/retriever/test_picture_worker.py has a few of them
def test_hostile_pictures(
    hostile_pictures: list[hostile.Hostile], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = hostile_pictures[::15]
    monkeypatch.setattr(hostile, "corpus", lambda: some)
    monkeypatch.setattr(hostile, "SECONDS_ALONE", 1)
    lines = asyncio.run(hostile.measure())
    assert f"| answers to {len(some)} hostile pictures |" in "\n".join(lines)
    assert lines[-1] == "| deaths of the server | | 0 |"


@pytest.mark.slow
def test_the_corpus_of_hostile_pictures_is_large_and_without_duplicates(
    hostile_pictures: list[hostile.Hostile],
) -> None:
    assert len(hostile_pictures) >= 200
    assert len({picture.data for picture in hostile_pictures}) == len(hostile_pictures)


@pytest.mark.slow
def test_chaos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos, "REQUESTS", 300)
    monkeypatch.setattr(chaos, "EVENTS", ["engine", "worker", chaos.BETA])
    lines, faults = asyncio.run(chaos.measure())
    assert faults == []
    assert "| engines killed | 1 |" in lines


@pytest.mark.slow
def test_ways_to_find_rewrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mixture_ways, "COUNTS", (2, 8))
    monkeypatch.setattr(sys, "argv", ["mixture_ways", "--limit", "1", "--work", str(tmp_path)])
    mixture_ways.main()
    printed = capsys.readouterr().out
    assert "| mixture of the most probable |" in printed
    assert "| all |" in printed


@pytest.mark.slow
def test_what_rewrites_gain_and_cost(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = mixture.queries()[:4]
    cells = [
        asyncio.run(mixture.cell(server, rows, n, clients))
        for n in (2, "auto")
        for clients in CLIENTS
    ]
    assert all(0 < cell.found <= (2 if cell.n == 2 else 16) for cell in cells)
    monkeypatch.setattr(mixture, "PLOT", tmp_path / "plot.png")
    mixture.plot(cells)
    assert (tmp_path / "plot.png").stat().st_size > 10_000
