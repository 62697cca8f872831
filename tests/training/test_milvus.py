"""`grape train` and `grape eval` on a collection in Milvus, beside the folder it is a copy of."""

from pathlib import Path

import pytest

import grape
from models.common.paths import index_dir
from models.retriever import milvus_write
from models.retriever.address import IndexPlace, MilvusAddress
from models.retriever.image_index import ImageIndex
from models.retriever.open import manifest_of
from tests.support.milvus_server import RunningMilvus, new_address
from tests.support.train_runs import config
from training.evaluation.results import Results

pytestmark = pytest.mark.heavy


@pytest.fixture(scope="module")
def collection(milvus: RunningMilvus) -> MilvusAddress:
    """The demo's gallery."""
    address = new_address(milvus)
    milvus_write.copy(address, ImageIndex.open(index_dir(), manifest_of(index_dir()).encoder))
    return address


def test_ranks_are_those_of_the_folder(collection: MilvusAddress, tmp_path: Path) -> None:
    def ranks(place: IndexPlace, folder: Path) -> list[int]:
        code = grape.run(
            ["eval", "--index", str(place), "--systems", '["direct"]', "--limit", "3",
             "--work", str(folder / "work"), "--report", str(folder / "report")]
        )  # fmt: skip
        assert code == 0
        results = Results.model_validate_json((folder / "report" / "results.json").read_bytes())
        return results.systems[0].ranks

    ours = ranks(collection, tmp_path / "collection")
    assert len(ours) > 20
    assert ours == ranks(index_dir(), tmp_path / "folder")


@pytest.mark.slow
def test_steps_are_those_of_the_folder(
    collection: MilvusAddress, tiny_llm: Path, tmp_path: Path
) -> None:
    def weights(place: IndexPlace, folder: Path) -> bytes:
        changes = {"index": str(place), "steps": 2, "average_weights_from": 1}
        path = config(folder, tiny_llm, validation_every=2, **changes)
        grape.run(["train", "--config", str(path)])  # so few steps may change no answer
        checkpoint = folder / "adapter.work" / "grpo" / "checkpoint-2"
        return (checkpoint / "adapter_model.safetensors").read_bytes()

    ours = weights(collection, tmp_path / "collection")
    assert ours == weights(index_dir(), tmp_path / "folder")
