"""Asking a running server what it searches with: patience, and one sentence for what goes wrong."""

import json
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import tenacity

from models.client.wire import SearchedTexts
from models.common.errors import GrapeError, InputError
from models.retriever.clip_encoder import ClipEncoder
from models.search.mixture import Component, components
from models.search.searches import Search, rewrite_searches
from tests.support.fake_grape_server import fake_server, refusal
from training.evaluation import served
from training.evaluation.served import SearchedWith, Served


def refused(sentence: str, error_type: str) -> bytes:
    return json.dumps(refusal(sentence, error_type)).encode()


@pytest.fixture
def server(encoder: ClipEncoder) -> Iterator[SimpleNamespace]:
    with fake_server(encoder) as running:
        yield running


def test_an_overloaded_server_is_asked_again_when_it_says(
    server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    # Not time.sleep itself: threads of other libraries call that, too.
    monkeypatch.setattr(tenacity.nap, "time", SimpleNamespace(sleep=pauses.append))
    server.fake.overloaded, server.fake.rewrites = 2, {"Uhr": ["clock"]}
    found = Served(server.url).searched_with(["Uhr"], "auto", "rewrite", 1)
    assert found[0].rewrites == [("clock",)]
    assert len(pauses) == 2
    assert all(7 < pause < 8 for pause in pauses)
    monkeypatch.setattr(served, "_OVERLOADED_FOR_S", 5.0)
    server.fake.overloaded = 1
    with pytest.raises(GrapeError, match="/search: too much") as raised:
        Served(server.url).searched_with(["Uhr"], "auto", "rewrite", 1)
    assert not isinstance(raised.value, InputError)
    assert len(pauses) == 2


@pytest.mark.parametrize(
    ("answer", "error", "sentence"),
    [
        ((422, refused("n: at most 16", "validation")), InputError, "/search: n: at most 16"),
        ((500, refused("Internal error.", "internal")), GrapeError, "/search: Internal error."),
        ((503, refused("No index.", "unavailable")), GrapeError, "/search: No index."),
        ((502, b"<html>"), GrapeError, "answered 502, but not as a GRAPE server"),
        ((404, b"<html>"), InputError, "answered 404, but not as a GRAPE server"),
        ((200, b"<html>"), InputError, "answered 200, but not as a GRAPE server"),
        ((200, b'{"results": [{}]}'), InputError, "answered 200, but not as a GRAPE server"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    server: SimpleNamespace, answer: tuple[int, bytes], error: type[Exception], sentence: str
) -> None:
    asks = Served(server.url)
    server.fake.fails_with = answer
    with pytest.raises(error, match=sentence) as raised:
        asks.searched_with(["Uhr"], "auto", "rewrite", 1)
    assert type(raised.value) is error


def test_no_server_is_one_sentence(server: SimpleNamespace) -> None:
    for url in ("http://127.0.0.1:9", "http://["):
        with pytest.raises(InputError, match=r"cannot be reached .*: start a server with"):
            Served(url)
    for url in ("127.0.0.1:9", ""):
        with pytest.raises(InputError, match=r"is not a server address; write it like http://"):
            Served(url)
    server.fake.not_ready = "still loading"
    with pytest.raises(InputError, match=r"is not ready \(still loading\): try again when"):
        Served(server.url)


@pytest.mark.parametrize("own", [0.0, 0.25])
@pytest.mark.parametrize(
    "rewrites", [{"clock": 0.3, "Uhr": 0.2, "watch": 0.1}, {"clock": 0.3}, {"Uhr": 0.3}]
)
def test_a_mixture_has_the_servers_weights(rewrites: dict[str, float], own: float) -> None:
    """Also where a rewrite repeats the query, and both are one search."""
    typed = Search("query", ("Uhr",))
    written = rewrite_searches(typed, [(text,) for text in rewrites])
    mixture = components(written, list(rewrites.values()), [Component(typed, own)])
    searched = SearchedWith.of(
        SearchedTexts(
            status="rewritten", reason="", texts=list(rewrites), truncated=False, parts=1,
            probabilities=list(rewrites.values()), clip_tokens=[3] * len(rewrites),
            fusion="mixture", tau=0.05, adapter=None,
            query_weight=sum(weight for search, weight in mixture if search is typed),
        )
    )  # fmt: skip
    searches, how = searched.searches(typed)
    expected = {search.parts: weight for search, weight in mixture}
    found = {s.parts: w for s, w in zip(searches, how.weights, strict=True) if w}
    assert found == pytest.approx(expected)
    assert how.tau == 0.05
