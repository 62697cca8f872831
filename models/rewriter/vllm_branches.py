"""The most probable rewrites: the greedy one, and the likeliest ways to leave it.

While the model writes its greedy answer, it says at each step which other words it considered. Each
of them begins another answer, as probable as its first words. The likeliest of these are finished
greedily, all in the engine's running batch. It is a beam search that opens no branch twice and
needs no second pass: docs/mixture.md compares it with beams, draws and first words.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from models.rewriter.protocol import Completion, Completions, OnText, Sampling
from models.rewriter.tasks import STOP

if TYPE_CHECKING:
    from vllm import RequestOutput
    from vllm.logprobs import Logprob

Stream = Callable[[Sequence[int], int], AsyncIterator["RequestOutput"]]


class Branch(NamedTuple):
    """The first words of an answer that leaves the greedy one at its last word."""

    probability: float  # of these words; all branches and the greedy answer exclude each other
    tokens: tuple[int, ...]
    ended: bool  # the last token ends the answer


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
    _followed: set[Branch] = field(default_factory=set)

    def certain(self, greedy: float, finished: bool) -> Iterator[Branch]:
        """The branches that are to be followed from now on.

        Args:
            greedy: probability of the greedy answer's words so far.
            finished: it is the whole answer, which passes no other branch.
        """
        left = 0.0 if finished else greedy
        before = greedy
        self.passed.sort(key=lambda branch: (-branch.probability, branch.tokens))
        for place, branch in enumerate(self.passed[: self.most]):
            better_to_come = math.floor(left / branch.probability)
            if place + better_to_come >= self.most or before >= self.coverage:
                return
            before += branch.probability
            if branch not in self._followed:
                self._followed.add(branch)
                yield branch


@dataclass
class BranchSearch:
    """The search for one prompt's rewrites.

    Args:
        stream: asks the engine to go on after these tokens, with so many alternatives a word.
        decode: token ids to text.
        ends: ids of the tokens that end an answer, besides those with a line break.
    """

    stream: Stream
    decode: Callable[[list[int]], str]
    ends: frozenset[int]
    _writing: list[asyncio.Task[Completion]] = field(default_factory=list)

    async def run(
        self, sampling: Sampling, on_text: OnText | None, within_s: float | None
    ) -> Completions:
        """The rewrites, the most probable first. At least one, however late it is."""
        self._write(self._greedy(sampling, on_text))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    while pending := [task for task in self._writing if not task.done()]:
                        await asyncio.wait(pending)
            await asyncio.wait(self._writing, return_when=asyncio.FIRST_COMPLETED)
            done = [task.result() for task in self._writing if task.done()]
        finally:
            for task in self._writing:
                task.cancel()
        done.sort(key=lambda completion: -(completion.probability or 0.0))
        return Completions(done, len(self._writing) - len(done))

    async def _greedy(self, sampling: Sampling, on_text: OnText | None) -> Completion:
        """The greedy answer; starts to follow branches while it is written."""
        alternatives = Alternatives(sampling.n - 1, sampling.coverage)
        logprob, words = 0.0, 0
        async for output in self.stream((), sampling.n):
            answer = output.outputs[0]
            tokens, tops = list(answer.token_ids), answer.logprobs or []
            for place in range(words, len(tokens)):
                alternatives.passed += self._passed(tokens[:place], logprob, tops[place])
                logprob += tops[place][tokens[place]].logprob
            words = len(tokens)
            for branch in alternatives.certain(math.exp(logprob), bool(output.finished)):
                self._write(self._followed(branch))
            if on_text:
                on_text(answer.text)
        return Completion(self.decode(tokens), math.exp(logprob))

    def _passed(
        self, tokens: list[int], logprob: float, top: Mapping[int, "Logprob"]
    ) -> Iterator[Branch]:
        """The branches that leave the greedy answer after these tokens."""
        for token, considered in top.items():
            ended = token in self.ends or STOP in (considered.decoded_token or "")
            probability = math.exp(logprob + considered.logprob)
            if considered.rank != 1 and probability and (tokens or not ended):
                yield Branch(probability, (*tokens, token), ended)

    async def _followed(self, branch: Branch) -> Completion:
        """A branch, finished greedily."""
        tokens, logprob = list(branch.tokens), math.log(branch.probability)
        if not branch.ended:
            async for output in self.stream(branch.tokens, 0):
                tokens += output.outputs[0].token_ids
                logprob += output.outputs[0].cumulative_logprob or 0.0
        return Completion(self.decode(tokens), math.exp(logprob))

    def _write(self, answer: Coroutine[Any, Any, Completion]) -> None:
        task = asyncio.create_task(answer)
        # Where the engine dies, every answer fails, and one of the errors is enough.
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._writing.append(task)
