"""From a model's answers to rankings, by the parser, encoder and corpus that serving uses."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from models.retriever.image_index import ImageIndex
from models.retriever.open import EncoderOptions, open_whole
from models.retriever.types import Encoder
from models.rewriter.answers import read_rewrite
from training.retriever_settings import RetrieverSettings
from training.rewards.ranking import Corpus, Ranker, Ranking
from training.rewards.rewards import Rollout
from training.rewards.sampled_ranking import Pool


@dataclass(frozen=True)
class Retriever:
    """The frozen retriever, which every reward and every metric is measured with."""

    encoder: Encoder
    index: ImageIndex
    corpus: Ranker


def load_retriever(settings: RetrieverSettings) -> Retriever:
    """Opens the index with the encoder that built it, and its corpus for ranking.

    Raises:
        InputError: index or encoder are missing.
    """
    options = EncoderOptions(device=settings.encoder_device, precision=settings.encoder_precision)
    encoder, index = open_whole(settings.index, options)
    corpus: Ranker
    if len(index) <= settings.exact_up_to:
        corpus = Corpus.of(index.vectors(), settings.encoder_device)
    else:
        corpus = Pool(index, settings.pool_hard, settings.pool_random, settings.seed)
    return Retriever(encoder, index, corpus)


def of_mixture(retriever: Retriever, tau: float, left_out: Collection[str] = ()) -> Retriever:
    """The retriever as a mixture of rewrites sees it.

    Args:
        tau: temperature of the softmax over the pictures.
        left_out: ids of pictures that nothing is ranked against. A corpus that a pool represents
            keeps them.
    """
    corpus = retriever.corpus.with_temperature(tau)
    if left_out and isinstance(corpus, Corpus):
        gone = {retriever.index.position(picture) for picture in left_out}
        corpus = corpus.part([place for place in range(len(corpus)) if place not in gone])
    return replace(retriever, corpus=corpus)


class Scorer:
    """Ranks completions. Caches the last batch, because each reward of a step asks for it."""

    def __init__(self, retriever: Retriever) -> None:
        self.retriever = retriever
        self._asked: tuple[list[str], list[str]] | None = None
        self._answer: Rollout | None = None

    def rank(self, texts: Sequence[str], targets: Sequence[Sequence[str]]) -> Ranking:
        """Ranks texts without parsing them.

        Args:
            targets: for each text the ids of its right pictures.
        """
        index = self.retriever.index
        positions = [[p for t in ids if (p := index.position(t)) is not None] for ids in targets]
        return self.retriever.corpus.rank(self.retriever.encoder.encode_texts(texts), positions)

    def rollout(
        self, completions: Sequence[str], queries: Sequence[str], targets: Sequence[Sequence[str]]
    ) -> Rollout:
        """Ranks what would be searched for each completion, and each query as typed."""
        asked = (list(completions), list(queries))
        if asked == self._asked and self._answer is not None:
            return self._answer
        texts = searched(completions, queries)
        encoder = self.retriever.encoder
        # Both in one batch and one matrix product, each query once for its group.
        distinct = list(dict.fromkeys(zip(queries, map(tuple, targets), strict=True)))
        both = self.rank(
            [*texts, *(query for query, _ in distinct)], [*targets, *(ids for _, ids in distinct)]
        )
        place = {pair: len(texts) + number for number, pair in enumerate(distinct)}
        originals = [place[q, tuple(ids)] for q, ids in zip(queries, targets, strict=True)]
        self._answer = Rollout(
            completions=completions,
            clip_tokens=[encoder.text_length(text).clip_tokens for text in texts],
            context_length=encoder.context_length,
            rewritten=both.take(range(len(texts))),
            original=both.take(originals),
        )
        self._asked = asked
        return self._answer


def searched(completions: Sequence[str], queries: Sequence[str]) -> list[str]:
    """What serving would search: the parsed rewrite, or the query if there is none."""
    return [read_rewrite(c) or q for c, q in zip(completions, queries, strict=True)]


def recall_at(k: int, ranking: Ranking) -> float:
    """Share of texts whose best target is among the first ``k``; 0 without any text."""
    return float((ranking.rank <= k).mean()) if len(ranking.rank) else 0.0
