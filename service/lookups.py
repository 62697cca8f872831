"""What a plan looks up on its way: searches in the index, and answers of the rewriter."""

import asyncio
import time
from collections.abc import Callable, Sequence

from models.client.wire import DirectHits, PartialRewrite
from models.retriever.index import Chosen
from models.retriever.manifest import Effort
from models.retriever.types import Scored
from models.rewriter.protocol import Prompt, Sampling
from models.search.negation import demoted
from models.search.plan import BestScore, Given, Plan, Result, Steps
from models.search.query import Reference
from models.search.searches import Search
from service.retrieval import BatchedRetriever
from service.rewriting.host import Rewritten
from service.rewriting.routing import Rewriters

Tell = Callable[[DirectHits | PartialRewrite], None]  # hears what is known before the answer is


class Lookups:
    """What one query's searches reach; each search is made once.

    Args:
        left_out: the picture that the query starts from.
        chosen: the only pictures that may be found. The gate is told the best of all pictures: what
            the encoder knows does not depend on a filter, and the known scores are those of all.
        effort: how much of a large index to look at; None for the index's own.
    """

    def __init__(
        self,
        retriever: BatchedRetriever,
        left_out: Reference | None = None,
        chosen: Chosen | None = None,
        effort: Effort | None = None,
    ) -> None:
        self._retriever = retriever
        self._left_out = left_out.position if left_out else None
        self._chosen = chosen
        self._effort = effort
        self._found: dict[tuple[int, bool], tuple[Search, Scored]] = {}
        self.encode_ms = 0.0
        self.search_ms = 0.0

    async def find(self, searches: Sequence[Search]) -> list[Scored]:
        """What each search reaches, without the picture that the query starts from."""
        return await self._find(searches, self._chosen)

    async def _find(self, searches: Sequence[Search], chosen: Chosen | None) -> list[Scored]:
        # By identity: parts hold vectors, which have no single truth value to compare by.
        keys = [(id(search), chosen is not None) for search in searches]
        new = {key: s for key, s in zip(keys, searches, strict=True) if key not in self._found}
        if new:
            groups = [search.parts for search in new.values()]
            found = await self._retriever.retrieve(groups, chosen, self._effort)
            self.encode_ms += found.encode_ms
            self.search_ms += found.search_ms
            for (key, search), scored in zip(new.items(), found.found, strict=True):
                if self._left_out is not None:
                    scored = scored.without(self._left_out)
                self._found[key] = search, scored  # kept alive, as its id is the key
        return [self._found[key][1] for key in keys]

    async def find_for(self, plan: Plan) -> list[Scored]:
        """What a plan's searches reach, with the pictures of what is not wanted behind the rest."""
        unwanted = plan.unwanted
        if unwanted is None:
            return await self.find(plan.searches)
        rest = [unwanted.rest] if unwanted.rest else []
        own = await self.find(plan.searches)
        # Of all pictures: those that a filter leaves may all be unlike what is not wanted.
        others = await self._find([*unwanted.like, *rest], None)
        last = demoted(others[: len(unwanted.like)], others[-1] if rest else None)
        return [scored.lowered(last) for scored in own]

    async def best_score(self, search: Search) -> float | None:
        """The best of all pictures' cosine; None if the index is empty."""
        (scored,) = await self._find([search], None)
        return float(scored.cosines.max()) if len(scored.cosines) else None


class RewriterCalls:
    """Asks the rewriter for one query, and notes what it cost and what failed."""

    def __init__(self, rewriters: Rewriters, sampling: Sampling, tell: Tell | None = None) -> None:
        self._rewriters = rewriters
        self._sampling = sampling
        self._tell = tell
        self.ms = 0.0
        self.failed: Rewritten | None = None  # the first answer without a rewrite

    async def answers(self, prompts: list[Prompt]) -> list[Rewritten]:
        started = time.perf_counter()
        tell = self._tell
        on_text = (lambda text: tell(PartialRewrite(text=text))) if tell else None
        streamed = on_text if len(prompts) == 1 else None  # several would be interleaved
        # The parts of a long query have one rewrite each, which are searched as one.
        sampling = self._sampling if len(prompts) == 1 else Sampling()
        answers = await asyncio.gather(
            *(self._rewriters.rewrite(prompt, sampling, streamed) for prompt in prompts)
        )
        self.ms += (time.perf_counter() - started) * 1000
        self.failed = next((answer for answer in answers if not answer.rewrites), None)
        return answers


async def carry_out(steps: Steps[Result], lookups: "Lookups", rewriting: "RewriterCalls") -> Result:
    """Looks up what the steps need, one thing after the other, until they are done."""
    given: Given = None
    while True:
        try:
            need = steps.send(given)
        except StopIteration as done:
            result: Result = done.value
            return result
        if isinstance(need, BestScore):
            given = await lookups.best_score(need.search)
        else:
            given = await rewriting.answers(need.prompts)
