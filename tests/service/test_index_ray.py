"""Parts that Ray's workers wrote become rows in Milvus."""

from pathlib import Path

import numpy as np

from models.retriever.address import folder_of
from models.retriever.build import Encoded
from models.retriever.folder import LeftOut
from models.retriever.item_store import Item
from models.retriever.milvus_index import MilvusIndex
from models.retriever.ray_build import Part, _file, _write
from service.index_ray import Sharded, parts_folder, put_together
from tests.support.colours import ColourEncoder, vector_of
from tests.support.milvus_server import RunningMilvus, new_address


def test_parts_go_into_a_collection_in_their_order(
    milvus_lite: RunningMilvus, tmp_path: Path
) -> None:
    encoder, place = ColourEncoder(), new_address(milvus_lite)
    shards = [tmp_path / f"{number}.tar" for number in range(3)]
    for number in range(3):
        items = [Item(f"{number}-{n}", {"n": n, "caption": "a red square"}) for n in range(2)]
        vectors = np.stack([vector_of((number + 1, n + 1, 9)) for n in range(2)])
        skipped, left_out = [("x", "broken")], [LeftOut("y", "other format")]
        _write(_file(tmp_path, number), Part(Encoded(items, vectors, skipped), left_out))
    done = put_together(Sharded(shards, tmp_path, encoder), place, "auto", None)
    assert (done.indexed, len(done.skipped), len(done.left_out)) == (6, 3, 3)
    index = MilvusIndex.open(place, encoder.fingerprint, strong=True)
    assert [item.id for _, item in index.items.located()] == [
        f"{number}-{n}" for number in range(3) for n in range(2)
    ]
    np.testing.assert_array_equal(index.vector(3), vector_of((2, 2, 9)))
    assert index.manifest.known_from == "captions"
    assert index.manifest.pictures == str(tmp_path.resolve())
    assert parts_folder(place) == Path(f"{place.collection}.parts")
    assert folder_of(place) is None
