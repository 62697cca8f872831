"""Pictures of an index of shards over HTTP."""

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from models.client.wire import ErrorType
from models.retriever.build import build_packed
from models.retriever.check import check
from models.retriever.shards import read_shards
from tests.service.api.test_routes import problem
from tests.support.app import Start

if TYPE_CHECKING:
    from models.retriever.clip_encoder import ClipEncoder


async def test_the_pictures_of_shards_are_served(
    start: Start, encoder: "ClipEncoder", tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for colour in ("red", "blue"):
            out = io.BytesIO()
            Image.new("RGB", (64, 64), colour).save(out, "PNG")
            member = tarfile.TarInfo(f"{colour}.png")
            member.size = out.tell()
            archive.addfile(member, io.BytesIO(out.getvalue()))
    index, _ = build_packed(read_shards([tmp_path / "0.tar"], []), encoder, folder=tmp_path)
    index.save(tmp_path / "index")
    assert all(found.good for found in check(tmp_path / "index", lambda: encoder))
    client = await start(index=tmp_path / "index")
    hits = (await client.post("/search", json={"query": "a red square"})).json()["hits"]
    for hit in hits:
        answer = await client.get(f"{hit['url']}?size=32")
        with Image.open(io.BytesIO(answer.content)) as shown:
            red, _, blue = shown.convert("RGB").getpixel((16, 16))  # type: ignore[misc]
        assert (red > blue) == (hit["id"] == "red")
    again = await client.get(
        f"{hits[0]['url']}?size=32",
        headers={"If-None-Match": (await client.get(f"{hits[0]['url']}?size=32")).headers["etag"]},
    )
    assert again.status_code == 304
    (tmp_path / "0.tar").unlink()
    problem(await client.get(f"{hits[0]['url']}?size=48"), 404, ErrorType.NOT_FOUND)
    assert not all(found.good for found in check(tmp_path / "index", lambda: encoder))
