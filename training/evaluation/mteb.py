"""A served configuration as an mteb model: the task brings the corpus, the server everything else.

Needs the extra ``mteb``. A server searches its own gallery, but an mteb task brings a corpus. So
the corpus is encoded and searched here, with the server's encoder, and the server reports what it
would search for: gate, rewriter and adapter are its own. Fusion is the code that serving runs.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.common.errors import InputError
from models.common.progress import say, track
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.index import REACHED
from models.retriever.pictures import PictureError, decode_picture, read_picture
from models.retriever.types import Scored
from models.search.fusion import FusedHit, Fusing, fuse
from models.search.options import Fusion, RewriteCount, RewriteMode
from models.search.query import Query, as_typed
from models.search.searches import Search, search_vectors
from training.evaluation.served import SearchedWith, Served, ServerInfo

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from mteb.models.model_meta import ModelMeta
    from mteb.types import EncodeKwargs
    from PIL import Image


class ServedModel:
    """A model for `mteb.evaluate`, by mteb's ``SearchProtocol``.

    It covers retrieval and reranking tasks with text queries and a corpus of pictures or texts.

    Args:
        url: where `grape serve` listens.
        encoder: the encoder that the server's index was built with.
        rewrite: ``auto``, ``always`` or ``never``; by default the server's setting.
        fusion: a fusion of ``models/search/options.py``; by default the server's setting.
        n: rewrites to search with, 1 to 16, or ``auto``; the most probable ones.

    Raises:
        InputError: mteb is not installed, or the server cannot be reached or has another encoder.
    """

    def __init__(
        self,
        url: str,
        encoder: ClipEncoder,
        rewrite: RewriteMode | None = None,
        fusion: Fusion | None = None,
        n: RewriteCount = "auto",
    ) -> None:
        self._server = Served(url)
        info = self._server.info
        served = info.index.encoder
        if not served.same_vectors(encoder.fingerprint):
            raise InputError(
                f"The server at {url} has the encoder {served} and would be measured with "
                f"{encoder.fingerprint}: give the one that it has."
            )
        self._encoder = encoder
        self._mode: RewriteMode = rewrite or info.rewrite
        self._fusion: Fusion = fusion or info.fusion
        self._n = n
        self._index: ImageIndex | None = None
        wishes = {"rewrite": self._mode, "fusion": self._fusion, "n": n}
        self.mteb_model_meta = _model_meta(info, encoder, wishes)

    def index(
        self,
        corpus: Any,
        *,
        task_metadata: "TaskMetadata",
        encode_kwargs: "EncodeKwargs",
        **_: Any,
    ) -> None:
        """Encodes a task's corpus: a ``datasets.Dataset`` with ``id`` and ``image`` or ``text``.

        Raises:
            InputError: the documents are of another kind, or a picture cannot be read.
        """
        if _modality(task_metadata, "document", ("image", "text")) == "image":
            places = _shown(range(len(corpus)), "Encoding pictures", encode_kwargs)
            vectors = self._encoder.encode_images(_pictures(corpus, places))
        else:
            vectors = self._encoder.encode_texts(_documents(corpus))
        ids = list(corpus["id"])
        self._index = ImageIndex.build(vectors, ids, [{}] * len(ids), self._encoder.fingerprint)

    def search(
        self,
        queries: Any,
        *,
        task_metadata: "TaskMetadata",
        top_k: int,
        encode_kwargs: "EncodeKwargs",
        top_ranked: Any = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """Searches the corpus as the server searches its gallery.

        Args:
            queries: a ``datasets.Dataset`` with ``id`` and ``text``.
            top_ranked: in a reranking task, the ids to rank for each query's id.

        Returns:
            The ids found for each query's id, with their scores.

        Raises:
            InputError: a query is not a text, or the server refuses it.
            GrapeError: the server's language model went away.
        """
        index = self._index
        assert index, "mteb indexes before it searches"
        _modality(task_metadata, "query", ("text",))
        ids, texts = list(queries["id"]), _asked(queries)
        step = self._server.at_once
        results: dict[str, dict[str, float]] = {}
        failures: list[str] = []
        for start in _shown(range(0, len(ids), step), f"Searching {step} at a time", encode_kwargs):
            batch = texts[start : start + step]
            answers = self._searched_with(batch, failures)
            depth = len(index) if top_ranked is not None else max(top_k, REACHED)
            lists = self._lists(index, batch, answers, depth)
            for query_id, (found, how) in zip(ids[start : start + step], lists, strict=True):
                if top_ranked is not None:
                    found = _only(found, {index.position(i) for i in top_ranked[query_id]})
                results[query_id] = _scored(fuse(found, how, top_k), index, how.fusion)
        if failures:
            say(f"{len(failures)} of {len(ids)} queries were searched as typed: {failures[0]}.")
        return results

    def _lists(
        self, index: ImageIndex, texts: Sequence[str], answers: Sequence[SearchedWith], depth: int
    ) -> list[tuple[list[Scored], Fusing]]:
        """For each query what its searches reach, and how that is fused."""
        planned = [
            answer.searches(self._typed(text)) for text, answer in zip(texts, answers, strict=True)
        ]
        parts = [search.parts for searches, _ in planned for search in searches]
        found = iter(index.score(search_vectors(parts, self._encoder), depth))
        return [(list(islice(found, len(searches))), how) for searches, how in planned]

    def _typed(self, query: str) -> Search:
        """The query without rewriting, in parts if the encoder cannot read it to its end."""
        return as_typed(Query(query), self._encoder)

    def _searched_with(self, queries: Sequence[str], failures: list[str]) -> list[SearchedWith]:
        """What the server searches for each query."""
        if self._mode == "never":
            as_typed = SearchedWith(status="kept", reason="not asked for", texts=[])
            return [as_typed for _ in queries]
        found = self._server.searched_with(queries, self._mode, self._fusion, self._n)
        failures += [searched.reason for searched in found if searched.status == "fallback"]
        return found


def _scored(hits: Sequence[FusedHit], index: ImageIndex, fusion: Fusion) -> dict[str, float]:
    """mteb sorts by score; the scores of interleaved lists do not fall with the rank."""
    return {
        index.ids[hit.position]: 1 / rank if fusion == "interleave" else hit.score
        for rank, hit in enumerate(hits, start=1)
    }


def _model_meta(info: ServerInfo, encoder: ClipEncoder, wishes: dict[str, Any]) -> "ModelMeta":
    """mteb stores results by name, revision and settings: these must differ by configuration."""
    try:
        from mteb.models.model_meta import ModelMeta, ScoringFunction
    except ImportError as error:
        raise InputError(
            "Measuring with mteb needs the package mteb: install the extra 'mteb'."
        ) from error
    return ModelMeta.create_empty(
        {
            "name": f"grape/{info.adapter or Path(info.llm).name}",
            "revision": info.revision,
            "experiment_kwargs": wishes,
            "embed_dim": encoder.dim,
            "max_tokens": encoder.context_length,
            "similarity_fn_name": ScoringFunction.COSINE,
            "modalities": ["text", "image"],
        }
    )


def _modality(task_metadata: "TaskMetadata", side: str, possible: tuple[str, ...]) -> str:
    from mteb.types import PromptType

    found = task_metadata.get_modalities(PromptType(side))
    if len(found) != 1 or found[0] not in possible:
        raise InputError(
            f"{task_metadata.name} is no task for this model: each {side} of it is "
            f"{' and '.join(found)} and not {' or '.join(possible)}."
        )
    return found[0]


def _documents(corpus: Any) -> list[str]:
    """Title and text joined, as mteb passes them to other models."""
    titles = corpus["title"] if "title" in corpus.column_names else [""] * len(corpus)
    return [
        f"{title or ''} {text}".strip() for title, text in zip(titles, corpus["text"], strict=True)
    ]


def _asked(queries: Any) -> list[str]:
    """Queries with their instructions, as mteb passes them to other models."""
    texts = list(queries["text"])
    if not all(isinstance(text, str) for text in texts):
        raise InputError("A query that is a conversation cannot be rewritten.")
    if "instruction" not in queries.column_names:
        return texts
    return [
        f"{text} {instruction}" if instruction else text
        for text, instruction in zip(texts, queries["instruction"], strict=True)
    ]


def _pictures(corpus: Any, places: Iterable[int]) -> Iterator["Image.Image"]:
    """Opens pictures as `grape index build` does: upright, transparent parts on white."""
    import datasets

    stored = corpus.select_columns(["id", "image"])
    stored = stored.cast_column("image", datasets.Image(decode=False))
    for place in places:
        row = stored[place]
        data, path = row["image"]["bytes"], row["image"]["path"]
        try:
            yield decode_picture(data) if data else read_picture(Path(path))
        except (PictureError, OSError) as error:
            raise InputError(
                f"The task's picture {row['id']!r} cannot be read: {error}."
            ) from error


def _only(found: Sequence[Scored], positions: set[int | None]) -> list[Scored]:
    wanted = np.array([position for position in positions if position is not None], np.int64)
    kept = [np.isin(scored.positions, wanted) for scored in found]
    return [
        Scored(scored.positions[own], scored.cosines[own])
        for scored, own in zip(found, kept, strict=True)
    ]


def _shown(places: range, label: str, encode_kwargs: "EncodeKwargs") -> Iterable[int]:
    return track(places, label) if encode_kwargs.get("show_progress_bar", True) else places
