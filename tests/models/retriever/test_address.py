"""How an index is named, in settings and on the command line."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from grape import run
from models.retriever.address import MilvusAddress, Place, folder_of
from service.settings import Settings

READ: TypeAdapter[Path | MilvusAddress] = TypeAdapter(Place)


@pytest.mark.parametrize(
    ("text", "uri", "collection", "consistency"),
    [
        ("milvus://db:19530/pictures", "http://db:19530", "pictures", None),
        ("milvus://db:1/p?consistency=strong&tls=true", "https://db:1", "p", "strong"),
        ("milvus:///srv/lite.db/p", "/srv/lite.db", "p", None),
    ],
)
def test_an_address_is_a_collection(
    text: str, uri: str, collection: str, consistency: str | None
) -> None:
    address = READ.validate_python(text)
    assert isinstance(address, MilvusAddress)
    assert (address.uri, address.collection, address.consistency) == (uri, collection, consistency)
    assert str(address) == text
    assert address.name == collection
    assert folder_of(address) is None


def test_all_else_is_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert READ.validate_python("some/folder") == Path("some/folder")
    monkeypatch.setenv("GRAPE_INDEX", "milvus")
    assert Settings().index == Path("milvus")
    monkeypatch.setenv("GRAPE_INDEX", "milvus://h:1/p")
    assert Settings().index == MilvusAddress("milvus://h:1/p")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("milvus://db/pictures", "is no address of a collection: write milvus://HOST:PORT/COLL"),
        ("milvus:/db:1/pictures", "is no address"),
        ("milvus://db:99999/pictures", "is no address"),
        ("milvus:///pictures", "is no address"),
        ("milvus://db:1/", "is no name of a collection"),
        ("milvus://db:1/my-pictures", "'my-pictures' is no name of a collection"),
        ("milvus://me:secret@db:1/p", "holds no user: set GRAPE_MILVUS_TOKEN"),
        ("milvus://db:1/p?consistency=maybe", r"consistency \(strong, bounded"),
        ("milvus://db:1/p?nprobe=3", "behind the question mark stand consistency"),
    ],
)
def test_what_is_no_address_is_one_sentence(
    text: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValidationError, match=reason):
        READ.validate_python(text)
    assert run(["index", "info", text]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "secret" not in told
