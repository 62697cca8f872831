"""`grape index`: builds an index, keeps it up to date, and proves it."""

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field
from pydantic_settings import CliPositionalArg

from models.common.errors import GrapeError, InputError
from models.common.progress import say
from models.common.settings import CommandSettings

if TYPE_CHECKING:  # heavy
    from models.retriever.folder import Scan
    from models.retriever.image_index import ImageIndex
    from models.retriever.sync import Changes


class _Encodes(CommandSettings):
    """A command that may encode pictures."""

    encoder: str | None = Field(
        None,
        description="open_clip model ('ViT-B-32', 'hf-hub:...'); defaults to that of the index, "
        "and for a new index to the demo's own",
    )
    pretrained: str | None = Field(None, description="open_clip's tag of the encoder's weights")
    encoder_device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    encoder_precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="the encoder's floating-point type"
    )

    def _options(self) -> Any:
        from models.retriever.open import EncoderOptions

        return EncoderOptions(
            self.encoder, self.pretrained, self.encoder_device, self.encoder_precision
        )


class IndexBuild(_Encodes):
    """Indexes the pictures below a folder, and reports what is left out and why."""

    pictures: CliPositionalArg[Path] = Field(description="folder of pictures")
    out: Path = Field(description="index folder to write")
    factory: str = Field("Flat", description="FAISS factory string; 'Flat' is exact")
    known_queries: Path | None = Field(
        None,
        description="text file with queries that the encoder understands (such as captions), one a "
        "line; `rewrite: auto` compares a query's best score with theirs. By default, the English "
        "captions of the pictures",
    )

    def cli_cmd(self) -> None:
        from models.common.progress import track
        from models.retriever.folder import scan
        from models.retriever.index_files import writing

        known = _read_lines(self.known_queries) if self.known_queries else None
        found = scan(self.pictures)  # fails before the slow imports
        with writing(self.out):
            from models.retriever.build import Reading, build_index
            from models.retriever.open import open_encoder
            from models.search.known_scores import learn

            encoder = open_encoder(self._options())
            index, report = build_index(
                {name: self.pictures / name for name in found.pictures},
                self.pictures,
                encoder,
                self.factory,
                Reading(lambda ids: track(ids, "Indexing", len(found.pictures))),
            )
            learn(index, lambda: encoder, known)
            index.save(self.out)
        _tell(found, report.skipped)
        print(f"{self.out}: {report.indexed} pictures indexed, {len(report.skipped)} skipped.")


class _Changes(_Encodes):
    """A command that changes an index."""

    @contextlib.contextmanager
    def _opened(self, folder: Path) -> Iterator["ImageIndex"]:
        """The index, which no one else can change meanwhile."""
        from models.retriever.index_files import writing
        from models.retriever.manifest import read_manifest

        encoder = read_manifest(folder).encoder  # fails without making the folder
        with writing(folder):
            from models.retriever.image_index import ImageIndex

            yield ImageIndex.open(folder, encoder)

    def _apply(
        self, out: Path, index: "ImageIndex", changes: "Changes", folder: Path | None = None
    ) -> list[tuple[str, str]]:
        """Saves the index with the changes, tells them, and returns what could not be read."""
        from models.common.progress import track
        from models.retriever.build import Reading
        from models.retriever.open import encoder_of
        from models.retriever.sync import synced
        from models.search.known_scores import learn

        encoder = cache(lambda: encoder_of(out, self._options()))
        reading = Reading(partial(track, label="Encoding", total=len(changes.new)))
        done = synced(index, folder, changes, encoder, reading)
        if changes.new or changes.removed or changes.touched:
            learn(done.index, encoder)
        done.index.save(out)
        counts = {
            "added": max(len(changes.new) - changes.changed - len(done.skipped), 0),
            "changed": changes.changed,
            "renamed": changes.renamed,
            "removed": len(changes.removed),
        }
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        print(f"{out}: {told}; {len(done.index)} pictures.", flush=True)
        return done.skipped


class IndexSync(_Changes):
    """Brings an index up to date with its folder: encodes new pictures, drops missing ones."""

    pictures: CliPositionalArg[Path] = Field(description="folder of pictures")
    index: CliPositionalArg[Path] = Field(description="index folder")
    watch: bool = Field(False, description="go on until Ctrl-C, and look again every --every s")
    every: float = Field(10.0, gt=0, description="seconds between two looks of --watch")

    def cli_cmd(self) -> None:
        self._sync()
        while self.watch:
            time.sleep(self.every)
            try:
                self._sync(quiet=True)
            except GrapeError as error:  # a disk that is full or away may come back
                say(f"not synchronised: {error}")

    def _sync(self, quiet: bool = False) -> None:
        from models.retriever.folder import scan
        from models.retriever.sync import compare

        found = scan(self.pictures)
        with self._opened(self.index) as index:
            changes = compare(index, self.pictures, found)
            moved = index.manifest.pictures != str(self.pictures.resolve())
            if changes or moved:
                _tell(found, self._apply(self.index, index, changes, self.pictures))
            elif not quiet:
                _tell(found, [])
                print(f"{self.index}: nothing has changed; {len(index)} pictures.")


class IndexAdd(_Changes):
    """Adds pictures to an index without looking at the rest of its folder."""

    index: CliPositionalArg[Path] = Field(description="index folder")
    files: CliPositionalArg[list[Path]] = Field(
        description="pictures in the folder that the index was built from"
    )

    def cli_cmd(self) -> None:
        from models.retriever.sync import added

        with self._opened(self.index) as index:
            folder, changes = added(index, self.files)
            for name, reason in self._apply(self.index, index, changes, folder):
                say(f"skipped {name}: {reason}")


class IndexRemove(_Changes):
    """Removes pictures from an index. Their files stay: `grape index sync` brings them back."""

    index: CliPositionalArg[Path] = Field(description="index folder")
    ids: CliPositionalArg[list[str]] = Field(description="ids of the pictures")

    def cli_cmd(self) -> None:
        from models.retriever.sync import without

        with self._opened(self.index) as index:
            self._apply(self.index, index, without(index, self.ids))


class IndexCheck(_Encodes):
    """Proves an index: checksums, counts, pictures that exist, a sample of vectors encoded anew."""

    index: CliPositionalArg[Path | None] = Field(
        None, description="index folder; defaults to the demo gallery"
    )
    sample: int = Field(32, ge=0, description="pictures to encode anew")

    def cli_cmd(self) -> None:
        from models.common.paths import index_dir
        from models.retriever.manifest import read_manifest

        folder = self.index or index_dir()
        read_manifest(folder)  # fails before the slow imports
        from models.retriever.check import check
        from models.retriever.open import encoder_of

        findings = []
        for finding in check(folder, lambda: encoder_of(folder, self._options()), self.sample):
            print(f"{'ok' if finding.good else 'WRONG'}: {finding.sentence}.", flush=True)
            findings.append(finding.good)
        if not all(findings):
            raise GrapeError(f"the index {folder} did not pass; the lines above say why.")


class IndexInfo(CommandSettings):
    """Prints the manifest of an index."""

    index: CliPositionalArg[Path | None] = Field(
        None, description="index folder; defaults to the demo gallery"
    )

    def cli_cmd(self) -> None:
        from models.common.paths import index_dir
        from models.retriever.manifest import read_manifest

        print(read_manifest(self.index or index_dir()).model_dump_json(indent=2))


def _tell(found: "Scan", skipped: list[tuple[str, str]]) -> None:
    """Says which pictures could not be read, and how much else was left out."""
    for name, reason in skipped:
        say(f"skipped {name}: {reason}")
    counts: Counter[str] = found.counts()
    if counts:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        say(f"left out: {told}.")


def _read_lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}.") from error
    if not any(lines):
        raise InputError(f"{path} contains no queries.")
    return [line for line in lines if line]
