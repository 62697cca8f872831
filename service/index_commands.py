"""`grape index`: keeps an index up to date, and proves it."""

import contextlib
import json
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from pydantic_settings import CliPositionalArg

from models.common.errors import GrapeError
from models.common.progress import say
from models.common.settings import CommandSettings
from models.retriever.address import IndexPlace, MilvusAddress, Place
from service.index_build import Encodes, Scans, tell_left_out

if TYPE_CHECKING:  # heavy
    from models.retriever.build import Reading
    from models.retriever.image_index import ImageIndex
    from models.retriever.manifest import Scanned
    from models.retriever.milvus_index import MilvusIndex
    from models.retriever.sync import Changes


_INDEX = "index folder, or a collection as milvus://HOST:PORT/COLLECTION"


class _Changes(Encodes):
    """A command that changes an index."""

    @contextlib.contextmanager
    def _opened(self, place: IndexPlace) -> Iterator["ImageIndex | MilvusIndex"]:
        """The index, which no one else can change meanwhile."""
        from models.retriever.open import manifest_of

        manifest_of(place)  # fails before the slow imports, and without making a folder
        from models.retriever.change import opened

        with opened(place) as index:
            yield index

    def _apply(
        self,
        out: IndexPlace,
        index: "ImageIndex | MilvusIndex",
        changes: "Changes",
        folder: Path | None = None,
        reading: "Reading | None" = None,
    ) -> list[tuple[str, str]]:
        """Saves the index with the changes, tells them, and returns what could not be read.

        Nothing is saved if all that is new cannot be read.
        """
        from models.common.progress import track
        from models.retriever.build import Reading
        from models.retriever.change import save, synced
        from models.retriever.open import encoder_of
        from models.search.known_scores import learn

        encoder = cache(lambda: encoder_of(out, self._options()))
        tracked = partial(track, label="Encoding", total=len(changes.new))
        reading = (reading or Reading())._replace(track=tracked)
        done = synced(index, folder, changes, encoder, reading)
        if not done.differs:
            return done.skipped
        if changes.new or changes.removed or changes.touched:
            learn(done.index, encoder)
        save(done.index, out)
        counts = {
            "added": max(len(changes.new) - changes.changed - len(done.skipped), 0),
            "changed": changes.changed,
            "renamed": changes.renamed,
            "removed": len(changes.removed),
        }
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        print(f"{out}: {told}; {len(done.index)} pictures.", flush=True)
        return done.skipped


class IndexSync(_Changes, Scans):
    """Brings an index up to date with its folder: encodes new pictures, drops missing ones."""

    pictures: CliPositionalArg[Path] = Field(description="folder of pictures")
    index: CliPositionalArg[Place] = Field(description=_INDEX)
    watch: bool = Field(False, description="go on until Ctrl-C, and look again every --every s")
    every: float = Field(10.0, gt=0, description="seconds between two looks of --watch")

    def cli_cmd(self) -> None:
        self._sync()
        while self.watch:
            time.sleep(self.every)
            try:
                self._sync(quiet=True)
            except (GrapeError, OSError) as error:  # a disk that is full or away may come back
                say(f"not synchronised: {error}")

    def _sync(self, quiet: bool = False) -> None:
        from models.retriever.build import Reading
        from models.retriever.folder import scan
        from models.retriever.metadata import Records
        from models.retriever.sync import compare

        with self._opened(self.index) as index:
            before = index.manifest
            scanned = self._scanned(before.scanned)
            found = scan(self.pictures, scanned.exclude)
            records = Records(self.pictures, found, self.metadata or _table(scanned))
            reading = Reading(record_of=records.of, scanned=scanned)
            changes = compare(index, self.pictures, found, reading)
            left_out = [*found.left_out, *records.left_out]
            moved = before.pictures != str(self.pictures.resolve())
            if changes or moved or before.scanned != scanned or index.interrupted:
                skipped = self._apply(self.index, index, changes, self.pictures, reading)
                tell_left_out(self.index, left_out, skipped)
            elif not quiet:
                tell_left_out(self.index, left_out, [])
                print(f"{self.index}: nothing has changed; {len(index)} pictures.")


class IndexAdd(_Changes):
    """Adds pictures to an index without looking at the rest of its folder."""

    index: CliPositionalArg[Place] = Field(description=_INDEX)
    files: CliPositionalArg[list[Path]] = Field(
        description="pictures in the folder that the index was built from"
    )

    def cli_cmd(self) -> None:
        from models.retriever.build import Reading
        from models.retriever.folder import scan_files
        from models.retriever.metadata import Records
        from models.retriever.sync import added, pictures_folder

        with self._opened(self.index) as index:
            folder = pictures_folder(index)
            found = scan_files(folder, self.files)
            scanned = index.manifest.scanned
            records = Records(folder, found, _table(scanned), whole=False)
            reading = Reading(record_of=records.of)
            changes = added(index, folder, found, reading)
            for name, reason in self._apply(self.index, index, changes, folder, reading):
                say(f"skipped {name}: {reason}")


def _table(scanned: "Scanned | None") -> Path | None:
    """The table of metadata, unless it is gone: then all metadata stays as it is."""
    if scanned is None or scanned.metadata is None:
        return None
    path = Path(scanned.metadata)
    if not path.is_file():
        say(f"{path} is gone, so what it said stays as it is; --metadata names another table.")
        return None
    return path


class IndexRemove(_Changes):
    """Removes pictures from an index. Their files stay: `grape index sync` brings them back."""

    index: CliPositionalArg[Place] = Field(description=_INDEX)
    ids: CliPositionalArg[list[str]] = Field(description="ids of the pictures")

    def cli_cmd(self) -> None:
        from models.retriever.sync import without

        with self._opened(self.index) as index:
            self._apply(self.index, index, without(index, self.ids))


class IndexCheck(Encodes):
    """Proves an index: checksums, counts, pictures that exist, a sample of vectors encoded anew."""

    index: CliPositionalArg[Place | None] = Field(
        None, description=f"{_INDEX}; defaults to the demo gallery"
    )
    sample: int = Field(32, ge=0, description="pictures to encode anew")

    def cli_cmd(self) -> None:
        from models.common.paths import index_dir
        from models.retriever.open import manifest_of

        folder = self.index or index_dir()
        manifest_of(folder)  # fails before the slow imports
        from models.retriever.change import checked
        from models.retriever.open import encoder_of

        findings = []
        for finding in checked(folder, lambda: encoder_of(folder, self._options()), self.sample):
            print(f"{'ok' if finding.good else 'WRONG'}: {finding.sentence}.", flush=True)
            findings.append(finding.good)
        if not all(findings):
            raise GrapeError(f"the index {folder} did not pass; the lines above say why.")


class IndexInfo(CommandSettings):
    """Prints the manifest of an index, and of a collection its level of consistency."""

    index: CliPositionalArg[Place | None] = Field(
        None, description=f"{_INDEX}; defaults to the demo gallery"
    )

    def cli_cmd(self) -> None:
        from models.common.paths import index_dir
        from models.retriever.open import manifest_of

        place = self.index or index_dir()
        told = manifest_of(place).model_dump(mode="json")
        if isinstance(place, MilvusAddress):
            from models.retriever.milvus_index import consistency_of

            told["consistency"] = consistency_of(place)
        print(json.dumps(told, indent=2, ensure_ascii=False))
