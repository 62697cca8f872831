"""What search, service and commands use of an index, wherever its vectors are.

:class:`~models.retriever.image_index.ImageIndex` holds them in a folder, with FAISS and SQLite;
:class:`~models.retriever.milvus_index.MilvusIndex` stands in front of a collection in Milvus.

A picture has a position: a number that orders the index and is its own for as long as it is in it.
In a folder the positions are 0 to count - 1; a collection has gaps where pictures were removed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from models.retriever.facets import Facet
from models.retriever.filters import Filter
from models.retriever.item_store import Item
from models.retriever.manifest import Effort, IndexManifest
from models.retriever.shard_pictures import InShard
from models.retriever.types import Scored, Vectors

# What a search scores in a large index: always as many, as the softmax over them, and so every
# score, depends on it.
REACHED = 1_024


class Chosen(Protocol):
    """The pictures that a filter leaves, of the one index that selected them."""

    def __contains__(self, position: int) -> bool: ...


class Items(Protocol):
    """Ids and metadata."""

    def found(self, positions: Sequence[int]) -> dict[int, Item]:
        """The items at these positions, read at once; without those that are gone by now."""

    def located(self) -> Iterator[tuple[int, Item]]:
        """All items with their positions, in the order of the index, with their stamps."""

    def has_text(self, text: str) -> bool:
        """Whether a picture has this text, whatever its case, as a value of its metadata."""

    def with_symbol(self, symbol: str, read: Callable[[str], str | None]) -> Sequence[int]:
        """Positions of the pictures with a text that is this symbol, ascending.

        Args:
            read: the symbol that a text is, or None.
        """

    @property
    def removed(self) -> dict[str, str]:
        """Hash of the content and id of pictures that were removed."""

    @property
    def known_queries(self) -> list[str]:
        """What the known scores of the gate are measured with."""

    def remember_queries(self, texts: Iterable[str]) -> None:
        """Replaces the known queries, before the index is saved."""


class Index(Protocol):
    """Vectors, ids and metadata, bound to one encoder. Searching is thread-safe."""

    manifest: IndexManifest
    distant: bool  # whether every look-up is a call of another server

    @property
    def items(self) -> Items: ...

    def __len__(self) -> int: ...

    def position(self, picture_id: str) -> int | None:
        """Position of an id, or None."""

    def some(self, count: int) -> list[Item]:
        """Pictures from all over the index, or all of them if there are fewer."""

    def vector(self, position: int) -> Vectors:
        """One vector as stored: float32 ``[dim]``."""

    def picture(self, position: int) -> Path | InShard | None:
        """Where an image is: its own file, or its place in a shard; None if it is in neither."""

    def select(self, chosen: Filter) -> Chosen:
        """The pictures for which a filter is true.

        Raises:
            FilterError: a field that no picture has, or one without values of that kind.
        """

    def listed(self, chosen: Any = None) -> Sequence[int]:
        """Positions of the pictures to look around in, ascending; of a collection the first ones.

        Args:
            chosen: what :meth:`select` gave; None for all pictures.
        """

    def facets(self) -> list[Facet]:
        """What the pictures can be filtered by; nothing if that is not known without a scan."""

    def score(
        self,
        queries: Vectors,
        most: int = REACHED,
        chosen: Sequence[Any] | None = None,
        effort: Sequence[Effort | None] | None = None,
    ) -> list[Scored]:
        """Every picture's cosine with each query; in a large index only the best ``most``.

        Args:
            queries: unit vectors, float32 ``[q, dim]``.
            chosen: what :meth:`select` gave for each query; None for all pictures.
            effort: how much of a large index each query looks at; None for the index's own.
        """

    def learn_known_scores(self, queries: Vectors) -> None:
        """Records how the best image scores for queries that the encoder understands.

        Args:
            queries: unit vectors, float32 ``[q, dim]``, for example of the images' English names.
        """
