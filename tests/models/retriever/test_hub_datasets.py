"""A data set on the hub, read by the real `datasets` as it arrives."""

import io
from pathlib import Path

import pandas
import pytest
from PIL import Image

from tests.support.hub import running_hub
from tests.support.hub_chain import grape

pytestmark = pytest.mark.heavy


def parquet(colours: list[str]) -> bytes:
    rows = []
    for colour in colours:
        png = io.BytesIO()
        Image.new("RGB", (16, 16), colour).save(png, "PNG")
        rows.append({"image": {"bytes": png.getvalue(), "path": f"{colour}.png"}, "text": colour})
    out = io.BytesIO()
    pandas.DataFrame(rows).to_parquet(out)
    return out.getvalue()


def test_a_split_at_a_revision_is_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_hub() as hub:
        for name, value in hub.environment(tmp_path / "hf").items():
            monkeypatch.setenv(name, value)
        data = hub.repository("someone/pictures", "datasets")
        first = data.commit({"data/train-00000-of-00001.parquet": parquet(["red", "blue"])})
        data.commit({"data/train-00000-of-00001.parquet": parquet(["red", "blue", "green"])})
        for source, count in (
            ("hf-hub:someone/pictures", 3),
            (f"hf-hub:someone/pictures@{first}", 2),
        ):
            done = grape("index", "build", source, "--out", tmp_path / str(count))
            assert f"{count} pictures indexed, 0 skipped." in done.stdout
