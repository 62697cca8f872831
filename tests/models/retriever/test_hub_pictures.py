"""The pictures of a data set by its name. `datasets` reads real rows; only the hub is not there."""

import io
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from grape import run
from models.common.errors import GrapeError, InputError
from models.retriever.build import build_packed
from models.retriever.folder import LeftOut
from models.retriever.hub_pictures import is_dataset, read_dataset
from tests.support.colours import ColourEncoder


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of it."""
    asked: list[Any] = []
    rows = [
        {"image": {"bytes": png("red"), "path": "red.png"}, "caption": "a red square", "n": 1},
        {"image": None, "caption": "nothing", "n": 2},
        {"image": {"bytes": b"no picture", "path": "broken.png"}, "caption": None, "n": 3},
        {"image": {"bytes": png("blue"), "path": None}, "caption": "a blue square", "n": 4},
    ]
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.Value("string"),
            "n": datasets.Value("int64"),
        }
    )

    def load(name: str, revision: str | None, split: str, streaming: bool) -> Any:
        asked.append((name, revision, split, streaming))
        made = datasets.Dataset.from_list(rows, features=features.copy())
        return made.to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked


def test_the_rows_of_a_data_set_are_indexed(hub: list[Any]) -> None:
    left_out: list[LeftOut] = []
    pictures = read_dataset("hf-hub:owner/squares@main", "test", left_out)
    index, report = build_packed(pictures, ColourEncoder())
    assert hub == [("owner/squares", "main", "test", True)]
    assert list(index.ids) == ["red.png", "squares-4"]
    assert list(index.metadata) == [
        {"caption": "a red square", "n": 1}, {"caption": "a blue square", "n": 4},
    ]  # fmt: skip
    assert left_out == [LeftOut("hf-hub:owner/squares@main:2", "row without a picture")]
    assert [name for name, _ in report.skipped] == ["broken.png"]


def test_pictures_that_are_files_of_their_own_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "red.png").write_bytes(png("red"))
    real = datasets.load_dataset

    def load(*_: object, **__: object) -> Any:
        return real("imagefolder", data_dir=str(tmp_path), split="train", streaming=True)

    monkeypatch.setattr(datasets, "load_dataset", load)
    index, _ = build_packed(read_dataset("hf-hub:owner/name", "train", []), ColourEncoder())
    assert list(index.ids) == ["red.png"]


def test_a_hub_that_breaks_off_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows() -> Any:
        yield {"image": {"bytes": png("red"), "path": "red.png"}}
        raise ConnectionError

    broken = datasets.IterableDataset.from_generator(rows)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: broken)
    with pytest.raises(GrapeError, match=r"broke off after 1 rows \(ConnectionError\)"):
        list(read_dataset("hf-hub:owner/name", "train", []))


@pytest.mark.parametrize("source", ["hf-hub:", "hf-hub:a/b/c", "hf-hub:a b/c", "hf-hub:a/b@"])
def test_what_is_no_name_of_a_data_set_is_refused(source: str) -> None:
    assert is_dataset(source)
    with pytest.raises(InputError, match="write it like hf-hub:OWNER/NAME"):
        read_dataset(source, "train", [])


def test_a_data_set_without_pictures_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made = datasets.Dataset.from_list([{"text": "x"}]).to_iterable_dataset()
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: made)
    with pytest.raises(InputError, match=r"owner/name has no column with pict.*\(text\)"):
        read_dataset("hf-hub:owner/name", "train", [])


def test_a_hub_out_of_reach_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert run(["index", "build", "hf-hub:nobody/nothing", "--out", "INDEX"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Reading the split train of the data set nobody/nothing from the hub."
    assert said[-1].startswith("grape index build: The hub cannot be reached (")
    assert not (tmp_path / "INDEX").exists()
