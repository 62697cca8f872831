"""The most probable rewrites: the greedy one, and the likeliest ways to leave it.

While the model writes its greedy answer, it says at each step which other words it considered. Each
of them begins another answer, as probable as its first words. The likeliest of these are finished
greedily, all in the engine's running batch. It is a beam search that opens no branch twice and
needs no second pass: docs/mixture.md compares it with beams, draws and first words.

A search is as slow as its longest answer. So a branch that goes on after the greedy answer has
ended is given up, unless it is probable.
"""

import asyncio
import contextlib
import math
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from models.rewriter.protocol import Completion, Completions, OnText, Sampling

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.logprobs import Logprob

# Arguments: the tokens to go on from, alternatives to name at each token, whether to write text.
Stream = Callable[[Sequence[int], int, bool], AsyncGenerator["RequestOutput"]]

Result = TypeVar("Result")

# How much longer than the greedy answer a branch may be, in tokens, if it is less than this share
# as probable. Without stragglers R@10 is the same (docs/decisions/search-and-gate.md).
LONGER = 1
PROBABLE = 0.25


class Branch(NamedTuple):
    """The first words of an answer that leaves the greedy one at its last word."""

    probability: float  # of these words; all branches and the greedy answer exclude each other
    tokens: tuple[int, ...]
    ended: bool  # the last token ends the answer


class Answer(NamedTuple):
    """What the model has written, maybe not to its end."""

    tokens: tuple[int, ...]
    logprob: float
    finished: bool = True

    def is_straggler(self, greedy: "Answer") -> bool:
        """Whether it makes the search wait for little.

        An answer's probability falls with every token. So what holds for its beginning holds for
        the whole, and what is given up does not depend on when it was looked at.
        """
        length = len(self.tokens) + (not self.finished)
        longer = length - len(greedy.tokens)
        return longer > LONGER and self.logprob < greedy.logprob + math.log(PROBABLE)


@dataclass
class Alternatives:
    """The branches that the greedy answer has passed so far, and which of them to follow.

    A branch is followed as soon as it is certain to be among the best: whatever the greedy answer
    still passes is together no more probable than the words that it has written. So what is
    followed does not depend on when it was decided.
    """

    most: int  # branches to follow
    coverage: float  # no more of them once they and the greedy answer have this probability
    passed: list[Branch] = field(default_factory=list)

    def best(self, greedy: float, to_come: float) -> list[Branch]:
        """The best branches, as far as they are certain.

        Args:
            greedy: probability of the greedy answer's words so far.
            to_come: probability that the branches which it still passes may have together.
        """
        before = greedy
        found: list[Branch] = []
        self.passed.sort(key=lambda branch: (-branch.probability, branch.tokens))
        for place, branch in enumerate(self.passed[: self.most]):
            better_to_come = math.floor(to_come / branch.probability)
            if place + better_to_come >= self.most or before >= self.coverage:
                break
            before += branch.probability
            found.append(branch)
        return found


@dataclass
class BranchSearch:
    """The search for one prompt's rewrites.

    Args:
        stream: asks the engine to go on.
        decode: token ids to text.
        ends: ids of the tokens that end an answer.
        eager: whether branches are followed before they are certain. The rewrites are the same, and
            sooner found; branches that were displaced in the end were written for nothing.
        go_on: tells the engine to write the next word of the greedy answer, if it waits for that.
    """

    stream: Stream
    decode: Callable[[list[int]], str]
    ends: frozenset[int]
    eager: bool = False
    go_on: Callable[[], Awaitable[None]] | None = None
    _greedy: Answer | None = None  # when it is finished
    _greedy_task: asyncio.Task[Answer] | None = None
    _branches: dict[Branch, asyncio.Task[Answer | None]] = field(default_factory=dict)

    async def run(
        self, sampling: Sampling, on_text: OnText | None, within_s: float | None
    ) -> Completions:
        """The rewrites, the most probable first. At least one, however late it is."""
        self._greedy_task = _started(self._write_greedy(sampling, on_text))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    while pending := [task for task in self._tasks if not task.done()]:
                        await asyncio.wait(pending)
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            done = [task.result() for task in self._tasks if task.done()]
            unfinished = len(self._tasks) - len(done)
        finally:
            for task in self._tasks:
                task.cancel()
        answers = [answer for answer in done if answer and not self._gives_up(answer)]
        answers.sort(key=lambda answer: -answer.logprob)
        return Completions([self._completion(answer) for answer in answers], unfinished)

    @property
    def _tasks(self) -> Sequence[asyncio.Task[Answer] | asyncio.Task[Answer | None]]:
        return [task for task in (self._greedy_task, *self._branches.values()) if task]

    def _gives_up(self, answer: Answer) -> bool:
        return self._greedy is not None and answer.is_straggler(self._greedy)

    def _completion(self, answer: Answer) -> Completion:
        return Completion(self.decode(list(answer.tokens)), math.exp(answer.logprob))

    def _follow(self, branches: Sequence[Branch]) -> None:
        for branch in branches:
            if branch not in self._branches:
                self._branches[branch] = _started(self._followed(branch))

    def _keep(self, branches: Sequence[Branch]) -> None:
        """Gives up the branches that were followed too eagerly."""
        for branch in self._branches.keys() - set(branches):
            self._branches.pop(branch).cancel()

    async def _write_greedy(self, sampling: Sampling, on_text: OnText | None) -> Answer:
        """The greedy answer; starts to follow branches while it is written."""
        alternatives = Alternatives(sampling.n - 1, sampling.coverage)
        logprob, words = 0.0, 0
        async for output in self.stream((), sampling.n, on_text is not None):
            answer = output.outputs[0]
            tokens, tops = list(answer.token_ids), answer.logprobs or []
            for place in range(words, len(tokens)):
                alternatives.passed += self._passed(tokens[: place + 1], logprob, tops[place])
                logprob += tops[place][tokens[place]].logprob
            words, probability = len(tokens), math.exp(logprob)
            self._follow(alternatives.best(probability, 0.0 if self.eager else probability))
            if self.go_on:
                await asyncio.sleep(0)  # until the branches have been asked for
                await self.go_on()
            if on_text:
                on_text(answer.text)
        best = alternatives.best(math.exp(logprob), 0.0)
        self._follow(best)
        self._keep(best)
        self._greedy = Answer(tuple(tokens), logprob)
        return self._greedy

    def _passed(
        self, greedy: list[int], logprob: float, top: Mapping[int, "Logprob"]
    ) -> Iterator[Branch]:
        """The branches that leave the greedy answer at its last token.

        Args:
            logprob: of the tokens before that one.
        """
        *before, chosen = greedy
        for token, considered in top.items():
            ended = token in self.ends
            probability = math.exp(logprob + considered.logprob)
            if token != chosen and probability and (before or not ended):
                yield Branch(probability, (*before, token), ended)

    async def _followed(self, branch: Branch) -> Answer | None:
        """A branch, finished greedily. None if it is given up."""
        begun = answer = Answer(branch.tokens, math.log(branch.probability))
        if branch.ended:
            return answer
        async with contextlib.aclosing(self.stream(branch.tokens, 0, False)) as outputs:
            async for output in outputs:
                written = output.outputs[0]
                logprob = begun.logprob + (written.cumulative_logprob or 0.0)
                tokens = (*begun.tokens, *written.token_ids)
                answer = Answer(tokens, logprob, output.finished)
                if self._gives_up(answer):
                    return None
        return answer


def _started(answer: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
    task = asyncio.create_task(answer)
    # Where the engine dies, every answer fails, and one of the errors is enough.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
