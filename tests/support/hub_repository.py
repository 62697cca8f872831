"""A repository of the stub hub: commits of files, with the checksums that git and the hub use."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_LARGE = (".safetensors", ".bin", ".parquet", ".pt")  # kept beside git, as the hub keeps them


@dataclass(frozen=True)
class Stored:
    """A file of a commit."""

    content: bytes
    is_large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_id(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_large else self.git_id


@dataclass
class Repository:
    """Commits by their hash; branches and tags by their name."""

    name: str
    gated: bool = False
    commits: dict[str, dict[str, Stored]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def commit(self, folder: Path | Mapping[str, bytes], branch: str = "main") -> str:
        """Adds a commit with exactly these files; returns its hash."""
        if isinstance(folder, Path):
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            folder = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
        files = {name: Stored(content, name.endswith(_LARGE)) for name, content in folder.items()}
        told = repr([len(self.commits), sorted((k, v.sha256) for k, v in files.items())])
        commit = hashlib.sha1(told.encode()).hexdigest()
        self.commits[commit] = files
        self.names[branch] = commit
        return commit

    def found(self, revision: str) -> str | None:
        """The commit that a revision means."""
        return self.names.get(revision) or (revision if revision in self.commits else None)
