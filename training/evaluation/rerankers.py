"""The rerankers that are compared, each asked for all queries at once. What they say is kept."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from models.rewriter.tasks import RERANK_TASKS
from models.search.compare import Tasks, read_for
from models.search.mixture import Mixture
from models.search.rerank import Comparison
from training.evaluation import listwise
from training.evaluation.costs import Paid
from training.evaluation.cross_encoder import PairModel
from training.evaluation.reranking import Answered, Reranking
from training.evaluation.systems import Reranker
from training.stages.sampling import Engine


class Judge(NamedTuple):
    """The language model that compares candidates."""

    engine: Engine
    path: str  # its checkpoint
    name: str  # for names of files; changes with the weights
    count: Callable[[Sequence[str]], int]  # its tokens in texts
    work: Path  # keeps what it says
    tasks: Tasks = RERANK_TASKS  # with the prompts that it was trained on

    def by_score(self, mixture: Mixture, by: Reranker) -> Reranking:
        """By likelihood or in groups, with the weight that is served."""
        assert by == "likelihood" or by == "group"
        return Reranking(by, mixture.rerank[by], self._scores)

    def by_order(self) -> Reranking:
        """By the order that it writes."""
        return Reranking("listwise", None, self._orders)

    def _scores(self, asked: Sequence[Comparison]) -> list[Answered]:
        file = self.work / f"scores-{self.name}.jsonl"
        found = self.engine.scores(self.path, asked, file, self.tasks)
        read = [read_for(one, self.tasks) for one in asked]
        return [
            Answered(values, Paid(len(prompts), self.count(prompts), seconds=seconds))
            for (values, seconds), prompts in zip(found, read, strict=True)
        ]

    def _orders(self, asked: Sequence[Comparison]) -> list[Answered]:
        path = self.work / f"orders-{self.name}.jsonl"
        written = self.engine.run(
            self.path, lambda start: listwise.write_orders(start, asked, path)
        )
        answered = []
        for one, (answers, seconds) in zip(asked, written, strict=True):
            scores, prompts = listwise.ranked(one, answers)
            paid = Paid(len(prompts), self.count(prompts), self.count(answers), seconds)
            answered.append(Answered(scores, paid))
        return answered


def by_pairs(model: PairModel, work: Path) -> Reranking:
    """By a cross-encoder."""
    path = work / f"pairs-{model.revision[:12]}.jsonl"

    def ask(asked: Sequence[Comparison]) -> list[Answered]:
        return [
            Answered(values, Paid(len(values), tokens, seconds=seconds))
            for values, tokens, seconds in model.scores(asked, path)
        ]

    return Reranking("cross-encoder", None, ask)


def depends_on(by: Reranker, model: PairModel | None) -> list[str]:
    """What the scores of a reranker depend on, besides its language model."""
    if by == "cross-encoder":
        assert model, "a system with a cross-encoder is measured with one"
        return [model.revision]
    if by == "listwise":
        return [listwise.fingerprint()]
    return [task.hash for task in RERANK_TASKS.values()]
