"""Answers are kept as they arrive, and never asked for again."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from models.common.errors import GrapeError, InputError
from models.rewriter.protocol import (
    Completions,
    Prompt,
    RewriteFailed,
    Rewriter,
    RewriterDown,
    Sampling,
)
from models.rewriter.tasks import MULTILINGUAL
from tests.support.completions import completions
from training.data.captions.kept_answers import KeptAnswers

ONE = Sampling()


class Echo:
    """Answers with the query; fails or goes down at certain ones."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = 0

    async def complete(self, prompt: Prompt, sampling: Sampling) -> Completions:
        self.asked.append(prompt.query)
        if prompt.query == "bad":
            raise RewriteFailed("no answer to that")
        if prompt.query == "end":
            raise RewriterDown("the engine has died")
        return completions(prompt.query.upper())

    async def close(self) -> None:
        self.closed += 1


def of(queries: str) -> list[Prompt]:
    return [Prompt(MULTILINGUAL, query) for query in queries.split()]


def opened(path: Path, model: Echo, name: str = "echo") -> KeptAnswers:
    start: Callable[[], Rewriter] = lambda: model  # type: ignore[assignment,return-value]  # noqa: E731
    return KeptAnswers(path, name, start)


async def test_what_is_kept_is_not_asked_again(tmp_path: Path) -> None:
    path, model = tmp_path / "new" / "work.jsonl", Echo()
    async with opened(path, model) as answers:
        found = await answers.ask(of("a b a"), ONE, "Asking")
        assert [some[0].text for some in found] == ["A", "B", "A"]
    assert model.closed == 1
    # As after kill -9: half a line at the end.
    path.write_text(path.read_text() + '{"key": "12')
    async with opened(path, model) as answers:
        found = await answers.ask(of("c a"), ONE, "Asking")
        assert [some[0].text for some in found] == ["C", "A"]
    async with opened(path, model) as answers:
        await answers.ask(of("a b c"), ONE, "Asking")
    assert model.asked == ["a", "b", "c"]
    assert model.closed == 2  # nothing was left to ask: no model was started


async def test_no_more_prompts_at_a_time_than_asked_for(tmp_path: Path) -> None:
    most = now = 0

    class Slow(Echo):
        async def complete(self, prompt: Prompt, sampling: Sampling) -> Completions:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return await super().complete(prompt, sampling)

    async with KeptAnswers(tmp_path / "w.jsonl", "x", lambda: cast(Rewriter, Slow()), 3) as kept:
        found = await kept.ask(of("a b c d e f g h"), ONE, "Asking")
    assert (most, [some[0].text for some in found]) == (3, list("ABCDEFGH"))


async def test_half_of_a_pair_is_kept_as_it_is(tmp_path: Path) -> None:
    path, model = tmp_path / "work.jsonl", Echo()
    prompt = Prompt(MULTILINGUAL, "猫\ud83d")
    for _ in range(2):
        async with opened(path, model) as answers:
            ((answer,),) = await answers.ask([prompt], ONE, "Asking")
            assert answer.text == "猫\ud83d"
    assert len(model.asked) == 1


async def test_another_model_or_sampling_or_prompt_is_asked(tmp_path: Path) -> None:
    path, model = tmp_path / "work.jsonl", Echo()
    for name, sampling, task in (
        ("echo", ONE, MULTILINGUAL), ("other", ONE, MULTILINGUAL),
        ("echo", Sampling(2, 0.7), MULTILINGUAL), ("echo", ONE, MULTILINGUAL.short),
    ):  # fmt: skip
        async with opened(path, model, name) as answers:
            await answers.ask([Prompt(task, "a")], sampling, "Asking")
    assert model.asked == ["a"] * 4


async def test_a_prompt_that_fails_is_told_and_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, model = tmp_path / "work.jsonl", Echo()
    for _ in range(2):
        async with opened(path, model) as answers:
            assert await answers.ask(of("bad a"), ONE, "Asking") != [(), ()]
    assert model.asked == ["bad", "a", "bad"]
    assert "failed at 1 of 2 prompts: no answer to that" in capsys.readouterr().err


async def test_a_model_that_is_gone_is_a_sentence_and_loses_nothing(tmp_path: Path) -> None:
    path, model = tmp_path / "work.jsonl", Echo()
    with pytest.raises(GrapeError, match=r"the engine has died.*run the same command again"):
        async with opened(path, model) as answers:
            await answers.ask(of("a end"), ONE, "Asking")
    async with opened(path, model) as answers:
        assert (await answers.ask(of("a"), ONE, "Asking"))[0][0].text == "A"
    assert model.asked == ["a", "end"]


async def test_two_processes_cannot_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "work.jsonl"
    async with opened(path, Echo()):
        with pytest.raises(InputError, match="Another process is writing"):
            opened(path, Echo())
    async with opened(path, Echo()):  # the first one has given it up
        pass
