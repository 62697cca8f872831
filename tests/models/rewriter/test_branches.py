"""Which branches of the greedy answer are followed, over a language model that is a table."""

import asyncio
import itertools
import math
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rewriter.protocol import AUTO, Completions, Sampling
from models.rewriter.vllm_branches import BranchSearch

END = 0
WORDS = 6  # in the model's vocabulary, with the end
LONGEST = 5  # words of an answer
Tokens = tuple[int, ...]


class TableModel:
    """A language model whose next word's probabilities are drawn once for each beginning.

    Args:
        sharpness: how much surer it is of one word than of the others.
        chunks: how many words its stream tells at a time, one number after the other.
        shortest: words of an answer, at least.
    """

    def __init__(
        self, seed: int, sharpness: float = 2.0, chunks: Sequence[int] = (1,), shortest: int = 1
    ) -> None:
        self._seed = seed
        self._sharpness = sharpness
        self._chunks = chunks
        self._shortest = shortest
        self.asked: list[Tokens] = []  # beginnings that were to be finished
        self.cancelled = 0
        self.hangs: set[int] = set()  # numbers of the streams that never end

    def logprobs(self, beginning: Tokens) -> list[float]:
        if len(beginning) >= LONGEST:
            return [0.0 if word == END else -math.inf for word in range(WORDS)]
        drawn = np.random.default_rng([self._seed, len(beginning), *beginning])
        scores = self._sharpness * drawn.normal(size=WORDS)
        if len(beginning) < self._shortest:
            scores[END] = -math.inf
        normalised: list[float] = (scores - np.log(np.exp(scores).sum())).tolist()
        return normalised

    def greedy(self, beginning: Tokens) -> Tokens:
        """The rest of the greedy answer."""
        if beginning and beginning[-1] == END:
            return ()
        word = int(np.argmax(self.logprobs(beginning)))
        return (word, *self.greedy((*beginning, word)))

    def logprob(self, answer: Tokens, start: int = 0) -> float:
        return sum(self.logprobs(answer[:at])[answer[at]] for at in range(start, len(answer)))

    async def stream(
        self, beginning: Sequence[int], alternatives: int, with_text: bool
    ) -> AsyncGenerator[Any]:
        number = len(self.asked)
        self.asked.append(tuple(beginning))
        words = self.greedy(tuple(beginning))
        told, chunk = 0, 0
        try:
            while told < len(words):
                await asyncio.sleep(0)
                if number in self.hangs:
                    await asyncio.sleep(60)
                told = min(len(words), told + self._chunks[chunk % len(self._chunks)])
                chunk += 1
                yield self._output(tuple(beginning), words[:told], alternatives, with_text)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise

    def _output(self, beginning: Tokens, words: Tokens, alternatives: int, with_text: bool) -> Any:
        tops = []
        for at in range(len(words)):
            logprobs = self.logprobs((*beginning, *words[:at]))
            best = np.argsort(logprobs)[::-1][: max(alternatives, 1)].tolist()
            tops.append(
                {
                    word: SimpleNamespace(logprob=logprobs[word], rank=rank)
                    for rank, word in enumerate(best, start=1)
                }
            )
        whole = (*beginning, *words)
        answer = SimpleNamespace(
            token_ids=list(words),
            text=text_of(words) if with_text else "",
            logprobs=tops if alternatives else None,
            cumulative_logprob=self.logprob(whole, len(beginning)),
        )
        return SimpleNamespace(outputs=[answer], finished=words[-1] == END)

    async def rewrites(self, sampling: Sampling, **given: Any) -> Completions:
        search = BranchSearch(self.stream, text_of, frozenset({END}), given.get("eager", False))
        return await search.run(sampling, given.get("on_text"), given.get("within_s"))

    def expected(self, sampling: Sampling) -> dict[str, float]:
        """By brute force: the greedy answer and its most probable branches, without stragglers."""
        greedy = self.greedy(())
        passed = [(*greedy[:at], word) for at in range(len(greedy)) for word in range(WORDS)]
        branches = [
            tokens
            for tokens in sorted(passed, key=lambda tokens: (-self.logprob(tokens), tokens))
            if tokens[-1] != greedy[len(tokens) - 1] and tokens != (END,)
            if self.logprob(tokens) > -math.inf
        ]
        covered = math.exp(self.logprob(greedy))
        answers = [greedy]
        for tokens in branches[: sampling.n - 1]:
            if covered >= sampling.coverage:
                break
            covered += math.exp(self.logprob(tokens))
            answers.append((*tokens, *self.greedy(tokens)))
        return {
            text_of(answer): math.exp(self.logprob(answer))
            for answer in answers
            if len(answer) <= len(greedy) + 1
            or self.logprob(answer) >= self.logprob(greedy) + math.log(0.25)
        }


def text_of(tokens: Sequence[int]) -> str:
    return " ".join(map(str, tokens))


CHUNKS = st.lists(st.integers(1, LONGEST), min_size=1, max_size=4)


SAMPLING = st.builds(Sampling, st.integers(1, 16), st.just(0.0), st.floats(0.2, 1))


@given(st.integers(0, 10**6), st.floats(0.3, 4), SAMPLING, CHUNKS, st.booleans())
def test_the_most_probable_branches_are_followed_each_once(
    seed: int, sharpness: float, sampling: Sampling, chunks: list[int], eager: bool
) -> None:
    model = TableModel(seed, sharpness, chunks)
    found = asyncio.run(model.rewrites(sampling, eager=eager))
    assert {answer.text: answer.probability for answer in found.answers} == pytest.approx(
        model.expected(sampling)
    )
    assert len({answer.text for answer in found.answers}) == len(found.answers)
    probabilities = [answer.probability or 0 for answer in found.answers]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) <= 1 + 1e-9
    assert found.unfinished == 0


async def test_a_straggler_is_given_up_unless_it_is_probable() -> None:
    """The greedy answer is one word; three branches go on to the longest answer."""

    class Straggles(TableModel):
        def logprobs(self, beginning: Tokens) -> list[float]:
            after = [1.0, 0, 0, 0, 0, 0] if beginning[:1] == (1,) else [0.0, 0, 0, 0, 0, 1]
            shares = after if beginning else [0, 0.5, 0.2, 0.16, 0.1, 0.04]
            if len(beginning) >= LONGEST:
                return super().logprobs(beginning)
            return [math.log(share) if share else -math.inf for share in shares]

    model = Straggles(0)
    found = await model.rewrites(Sampling(5))
    await asyncio.sleep(0)
    assert [answer.text for answer in found.answers] == ["1 0", "2 5 5 5 5 0", "3 5 5 5 5 0"]
    assert found.unfinished == 0
    assert model.cancelled == 2


def test_a_better_branch_that_comes_later_takes_no_place_of_one_that_is_followed() -> None:
    """The first branch is followed before the second one, which is more probable, is passed."""

    class Late(TableModel):
        def logprobs(self, beginning: Tokens) -> list[float]:
            table: dict[Tokens, list[float]] = {
                (): [0, 0.5, 0.2, 0.12, 0.1, 0.08],
                (1,): [0, 0.45, 0.55, 0, 0, 0],
                (1, 2): [1, 0, 0, 0, 0, 0],
            }
            shares = table.get(beginning, [1, 0, 0, 0, 0, 0])
            return [math.log(share) if share else -math.inf for share in shares]

    model = Late(0)
    found = asyncio.run(model.rewrites(Sampling(4)))
    texts = [answer.text for answer in found.answers]
    assert sorted(texts) == sorted(model.expected(Sampling(4)))
    assert len(texts) == len(set(texts)) == 4


async def test_of_two_equal_words_the_one_that_was_not_written_is_a_branch() -> None:
    """Whichever of them the engine ranks first."""

    class Tied(TableModel):
        def logprobs(self, beginning: Tokens) -> list[float]:
            shares = [1.0, 0, 0, 0, 0, 0] if beginning else [0, 0.4, 0.4, 0.2, 0, 0]
            return [math.log(share) if share else -math.inf for share in shares]

        def _output(self, *given: Any) -> Any:
            output = super()._output(*given)
            for top in output.outputs[0].logprobs or []:
                for rank, word in enumerate(reversed(top), start=1):
                    top[word].rank = rank
            return output

    found = await Tied(0).rewrites(Sampling(3))
    assert [answer.text for answer in found.answers] == ["1 0", "2 0", "3 0"]


@pytest.mark.parametrize(("eager", "followed"), [(False, 1), (True, 3)])
async def test_an_eager_search_does_not_wait_until_branches_are_certain(
    eager: bool, followed: int
) -> None:
    class Unsure(TableModel):
        def logprobs(self, beginning: Tokens) -> list[float]:
            shares = [1.0, 0, 0, 0, 0, 0] if len(beginning) > 2 else [0, 0.4, 0.3, 0.2, 0.1, 0]
            return [math.log(share) if share else -math.inf for share in shares]

    model, asked = Unsure(0), list[int]()
    await model.rewrites(Sampling(4), on_text=lambda _: asked.append(len(model.asked)), eager=eager)
    assert asked[1] == 1 + followed  # when the greedy answer has its second word


async def test_an_engine_that_waits_goes_on_when_the_branches_have_been_asked_for() -> None:
    """The model writes a word of the greedy answer only when it is told to go on."""
    goes_on, asked = asyncio.Semaphore(1), list[int]()

    class Waits(TableModel):
        async def stream(self, beginning: Sequence[int], *given: Any) -> AsyncGenerator[Any]:
            async for output in super().stream(beginning, *given):
                if not beginning:
                    await goes_on.acquire()
                yield output

    async def go_on() -> None:
        asked.append(len(model.asked))
        goes_on.release()

    model = Waits(5, 1.0, shortest=3)
    search = BranchSearch(model.stream, text_of, frozenset({END}), eager=True, go_on=go_on)
    async with asyncio.timeout(5):
        found = await search.run(Sampling(4), None, None)
    assert len(found.answers) > 1
    assert len(asked) == len(model.greedy(()))
    assert asked[0] == 4  # the greedy answer and the three branches of its first word


def test_one_rewrite_is_enough_where_the_model_is_sure() -> None:
    sure = next(
        model
        for model in (TableModel(seed, 6.0, shortest=LONGEST) for seed in range(999))
        if AUTO.coverage < math.exp(model.logprob(model.greedy(()))) < 0.95
    )
    assert len(asyncio.run(sure.rewrites(AUTO)).answers) == 1
    assert len(asyncio.run(sure.rewrites(Sampling(4))).answers) == 4
    assert 1 < len(asyncio.run(TableModel(1, 0.3).rewrites(AUTO)).answers) < AUTO.n


def test_the_greedy_answer_is_told_as_it_grows() -> None:
    model, told = TableModel(3), list[str]()
    asyncio.run(model.rewrites(Sampling(4), on_text=told.append))
    assert told[-1] == text_of(model.greedy(()))
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(told))


def never_short(seed: int = 5) -> TableModel:
    """Every branch has to be finished by the model."""
    return TableModel(seed, 1.0, shortest=LONGEST)


async def test_what_is_finished_at_the_deadline_is_enough() -> None:
    model = never_short()
    model.hangs = {2, 3}
    async with asyncio.timeout(5):
        found = await model.rewrites(Sampling(6), within_s=0.05)
    await asyncio.sleep(0)
    assert (len(found.answers), found.unfinished, model.cancelled) == (4, 2, 2)
    whole = await never_short().rewrites(Sampling(6))
    assert {answer.text for answer in found.answers} < {answer.text for answer in whole.answers}


async def test_at_least_one_is_waited_for() -> None:
    model = never_short()
    found = await model.rewrites(Sampling(4), within_s=0)
    assert found.answers
    assert {answer.text for answer in found.answers} <= set(model.expected(Sampling(4)))


async def test_who_leaves_stops_every_branch() -> None:
    model = never_short()
    model.hangs = set(range(1, 6))
    task = asyncio.create_task(model.rewrites(Sampling(6)))
    async with asyncio.timeout(5):
        while len(model.asked) < 6:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert model.cancelled == 5


async def test_a_model_that_dies_fails_the_whole_answer() -> None:
    class Dies(TableModel):
        async def stream(
            self, beginning: Sequence[int], alternatives: int, with_text: bool
        ) -> AsyncGenerator[Any]:
            if beginning:
                raise RuntimeError("the engine has died")
            async for output in super().stream(beginning, alternatives, with_text):
                yield output

    with pytest.raises(RuntimeError, match="has died"):
        await Dies(5, 1.0, shortest=LONGEST).rewrites(Sampling(6))
