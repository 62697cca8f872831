"""TREC files, for other evaluation tools."""

from collections.abc import Mapping, Sequence
from pathlib import Path


def write_qrels(path: Path, targets: Sequence[Sequence[str]]) -> None:
    """``query 0 picture 1``; queries are numbered from 0."""
    lines = (f"{q} 0 {_word(t)} 1\n" for q, ids in enumerate(targets) for t in ids)
    path.write_text("".join(lines), encoding="utf-8")


def write_run(path: Path, system: str, found: Sequence[Sequence[str]]) -> None:
    """``query Q0 picture rank score system``; scores fall with the rank, so that none are equal."""
    lines = (
        f"{q} Q0 {_word(picture)} {rank} {len(ids) - rank + 1} {system}\n"
        for q, ids in enumerate(found)
        for rank, picture in enumerate(ids, start=1)
    )
    path.write_text("".join(lines), encoding="utf-8")


def write_all(
    folder: Path, targets: Sequence[Sequence[str]], runs: Mapping[str, Sequence[Sequence[str]]]
) -> None:
    """``qrels.txt`` and a run file for each system."""
    folder.mkdir(parents=True, exist_ok=True)
    write_qrels(folder / "qrels.txt", targets)
    for system, found in runs.items():
        write_run(folder / f"{system}.run", system, found)


def _word(picture_id: str) -> str:
    """White space separates the fields of the format, so an id must not contain any."""
    return "_".join(picture_id.split())
