"""`grape index build`, and what the commands that change an index have in common with it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from models.common.errors import InputError
from models.common.findings import tell
from models.common.progress import say
from models.common.settings import CommandSettings, PlanSettings
from models.retriever.address import IndexPlace, Place, folder_of
from models.retriever.excluded import EXCLUDED, Patterns
from models.retriever.manifest import Scanned
from service.index_plan import plan_of_build

if TYPE_CHECKING:  # heavy
    from models.retriever.build import BuildReport
    from models.retriever.folder import LeftOut, Scan
    from models.retriever.image_index import ImageIndex
    from models.retriever.metadata import Records
    from models.retriever.shards import Packed
    from models.retriever.types import Encoder

    Built = tuple[ImageIndex, Encoder, BuildReport, list[LeftOut]]

LEFT_OUT = "left-out.jsonl"  # in the index folder; for a collection, here, behind its name


class Encodes(CommandSettings):
    """A command that may encode pictures."""

    encoder: str | None = Field(
        None,
        description="open_clip model ('ViT-B-32', 'hf-hub:...' or with @REVISION); defaults to "
        "that of the index, and for a new index to the demo's own",
    )
    pretrained: str | None = Field(
        None, description="open_clip's tag of the encoder's weights (or with @REVISION)"
    )
    encoder_device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    encoder_precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="the encoder's floating-point type"
    )

    def _options(self) -> Any:
        from models.retriever.open import EncoderOptions

        return EncoderOptions(
            self.encoder, self.pretrained, self.encoder_device, self.encoder_precision
        )


class Scans(Encodes):
    """A command that looks through a folder of pictures."""

    metadata: Path | None = Field(
        None,
        description="table of metadata (CSV, TSV, JSONL or Parquet) with a column `path`: the "
        "picture's path below the folder; defaults to that of the index",
    )
    exclude: Patterns = Field(
        None,
        description="comma-separated patterns of files and folders to leave out, by name or path; "
        "defaults to those of the index, and for a new index to the thumbnails and trash of NAS "
        "systems and photo programs",
    )

    def _scanned(self, before: Scanned | None = None) -> Scanned:
        """How to look through the folder: as asked, or else as before."""
        before = before or Scanned(exclude=EXCLUDED)
        exclude = before.exclude if self.exclude is None else self.exclude
        metadata = str(self.metadata.resolve()) if self.metadata else before.metadata
        return Scanned(exclude=exclude, metadata=metadata)


class IndexBuild(PlanSettings, Scans):
    """Indexes pictures, and reports what is left out and why.

    The source is a folder of pictures; or Parquet files or tar shards, or a folder of them; or
    a .npy file of vectors together with --ids; or a data set on the hub.
    """

    source: CliPositionalArg[Path] = Field(
        description="folder, .parquet, .tar or .npy; or hf-hub:OWNER/NAME (or with @REVISION) of a "
        "data set on the hub"
    )
    out: Place = Field(
        description="index folder to write, or a collection as milvus://HOST:PORT/COLLECTION"
    )
    ids: Path | None = Field(
        None, description="for a .npy: table of the vectors' ids and metadata, in their order"
    )
    split: str = Field("train", description="split of a data set on the hub")
    factory: str = Field(
        "auto",
        description="FAISS factory string; 'auto' is 'Flat', which is exact, for up to 50,000 "
        "pictures, and an IVF index above; in Milvus FLAT, HNSW, IVF_FLAT, IVF_SQ8 or 'auto'",
    )
    known_queries: Path | None = Field(
        None,
        description="text file with queries that the encoder understands (such as captions), one a "
        "line; `rewrite: auto` compares a query's best score with theirs. By default, the English "
        "captions of the pictures",
    )
    ray: str | None = Field(
        None,
        description="encode the shards on every node of a Ray cluster: its address, or 'auto' for "
        "the one that this machine is part of; the nodes share the folders of shards and index",
    )

    def cli_cmd(self) -> None:
        from models.retriever.change import save, writing

        if self.plan:
            tell(plan_of_build(self.source, self.out, self._options()), self.plan_as_json)
            return
        known = _read_lines(self.known_queries) if self.known_queries else None
        if self.ray is not None:
            self._with_ray(self.ray, known)
            return
        is_npy = self.source.suffix.lower() == ".npy"
        if is_npy is (self.ids is None):
            raise InputError("--ids names the table of ids of a .npy file, and of nothing else.")
        build = self._from_vectors if is_npy else self._from_pictures()  # fails without a trace
        with writing(self.out, self.factory):
            index, encoder, report, left_out = build()
            from models.search.known_scores import learn

            learn(index, lambda: encoder, known)
            refused = save(index, self.out, self.factory)
            tell_left_out(self.out, left_out, [*report.skipped, *refused])
        self._tell(report.indexed - len(refused), len(report.skipped) + len(refused))

    def _with_ray(self, address: str, known: list[str] | None) -> None:
        from models.retriever.change import writing
        from models.retriever.shards import shards_of
        from service import index_ray

        shards = shards_of(self.source)
        if not shards:
            raise InputError("--ray reads Parquet files and tar shards: name a folder of them.")
        with writing(self.out, self.factory):
            encoder = self._new_encoder()
            sharded = index_ray.Sharded(shards, index_ray.parts_folder(self.out), encoder)
            index_ray.encode(sharded, address, self._options())
            done = index_ray.put_together(sharded, self.out, self.factory, known)
            tell_left_out(self.out, done.left_out, done.skipped)
            index_ray.forget(sharded.work)
        self._tell(done.indexed, len(done.skipped))

    def _tell(self, indexed: int, skipped: int) -> None:
        print(f"{self.out}: {indexed} pictures indexed, {skipped} skipped.")

    @property
    def _faiss_factory(self) -> str:
        """Of the index in memory, which a collection is written from as it is."""
        return self.factory if folder_of(self.out) else "Flat"

    def _from_pictures(self) -> "Callable[[], Built]":
        """How the source is indexed, once it is known what it holds."""
        from models.retriever.folder import scan
        from models.retriever.hub_pictures import is_dataset
        from models.retriever.shards import shards_of

        scanned = self._scanned()
        if is_dataset(str(self.source)):
            return self._from_dataset()
        if self.source.is_file() and (shards := shards_of(self.source)):
            return lambda: self._from_shards(shards)
        try:
            found = scan(self.source, scanned.exclude)
        except InputError:
            if self.source.is_dir() and (shards := shards_of(self.source)):
                return lambda: self._from_shards(shards)
            raise
        from models.retriever.metadata import Records

        records = Records(self.source, found, self.metadata)
        return lambda: self._from_folder(found, records, scanned)

    def _from_folder(self, found: "Scan", records: "Records", scanned: Scanned) -> "Built":
        from models.common.progress import track
        from models.retriever.build import Reading, build_index

        encoder = self._new_encoder()
        index, report = build_index(
            {name: self.source / name for name in found.pictures},
            self.source,
            encoder,
            self._faiss_factory,
            Reading(lambda ids: track(ids, "Indexing", len(found.pictures)), records.of, scanned),
        )
        return index, encoder, report, [*found.left_out, *records.left_out]

    def _from_shards(self, shards: list[Path]) -> "Built":
        from models.retriever.shards import read_shards

        left_out: list[LeftOut] = []
        folder = self.source if self.source.is_dir() else self.source.parent
        return self._from_packed(read_shards(shards, left_out), left_out, folder)

    def _from_dataset(self) -> "Callable[[], Built]":
        from models.retriever.hub_pictures import read_dataset

        left_out: list[LeftOut] = []
        pictures = read_dataset(str(self.source), self.split, left_out)
        return lambda: self._from_packed(pictures, left_out)

    def _from_packed(
        self,
        pictures: "Iterator[Packed]",
        left_out: "list[LeftOut]",
        folder: Path | None = None,
    ) -> "Built":
        from models.common.progress import track
        from models.retriever.build import build_packed

        encoder = self._new_encoder()
        pictures = track(pictures, "Indexing")
        index, report = build_packed(pictures, encoder, self._faiss_factory, folder)
        return index, encoder, report, left_out

    def _from_vectors(self) -> "Built":
        from models.retriever.build import BuildReport
        from models.retriever.image_index import ImageIndex
        from models.retriever.manifest import IndexOptions
        from models.retriever.shards import read_vectors

        assert self.ids
        encoder = self._new_encoder()
        vectors, ids, records = read_vectors(self.source, self.ids, encoder.dim)
        options = IndexOptions(self._faiss_factory)
        index = ImageIndex.build(vectors, ids, records, encoder.fingerprint, options)
        return index, encoder, BuildReport(len(ids)), []

    def _new_encoder(self) -> "Encoder":
        from models.retriever.open import open_encoder

        return open_encoder(self._options())


def tell_left_out(
    out: IndexPlace, left_out: list["LeftOut"], skipped: list[tuple[str, str]]
) -> None:
    """Says which pictures could not be read and how much else was left out; a file names all."""
    from models.common.files import write_file

    for name, reason in skipped:
        say(f"skipped {name}: {reason}")
    rows = [{"path": one.path, "kind": one.kind, "reason": one.reason} for one in left_out]
    rows += [{"path": name, "kind": "unreadable picture", "reason": why} for name, why in skipped]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    folder = folder_of(out)
    named = folder / LEFT_OUT if folder else Path(f"{out.name}-{LEFT_OUT}")
    if folder or rows:  # no file is left where somebody works if there is nothing to tell
        write_file(named, lines.encode())
    if left_out:
        counts = Counter(one.kind for one in left_out)
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        say(f"left out: {told}; {named} names each.")


def _read_lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}.") from error
    if not any(lines):
        raise InputError(f"{path} contains no queries.")
    return [line for line in lines if line]
