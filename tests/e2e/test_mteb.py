"""The snippet of docs/evaluation.md: mteb evaluates the running server, on a small local task."""

import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.common import paths
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.pictures import read_picture
from tests.support.grape_server import Server

PAGE = (Path(__file__).parent.parent.parent / "docs" / "evaluation.md").read_text()
_getaddrinfo = socket.getaddrinfo
LANGUAGES = {"de": "deu-Latn", "ja": "jpn-Jpan", "en": "eng-Latn"}


def emoji_names(index: ImageIndex, places: range) -> Any:
    """A task of mteb: some pictures of the demo gallery, asked for by their names."""
    # Importing mteb takes seconds, which tests of other files should not wait for.
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    records = {index.ids[place]: index.metadata[place] for place in places}
    pictures = [read_picture(paths.pictures_dir() / r["file"]) for r in records.values()]
    corpus = Dataset.from_dict({"id": list(records), "image": pictures})

    class EmojiNames(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name="EmojiNames", description="OpenMoji drawings by their names", reference=None,
            dataset={"path": "local", "revision": "1"}, type="Any2AnyRetrieval", category="t2i",
            modalities=["text", "image"], eval_splits=["test"], main_score="ndcg_at_10",
            eval_langs={code: [language] for code, language in LANGUAGES.items()},
        )  # fmt: skip

        def load_data(self, *_: Any, **__: Any) -> None:
            self.dataset = {code: {"test": self._asked_in(code)} for code in LANGUAGES}
            self.data_loaded = True

        def _asked_in(self, code: str) -> Any:
            names = [record["names"][code] for record in records.values()]
            queries = [
                {"id": f"{code} {i}", "text": n} for i, n in zip(records, names, strict=True)
            ]
            return {
                "corpus": corpus,
                "queries": Dataset.from_list(queries),
                "relevant_docs": {f"{code} {picture}": {picture: 1} for picture in records},
                "top_ranked": None,
            }

    return EmojiNames()


def test_mteb_evaluates_the_running_server(
    server: Server,
    encoder: ClipEncoder,
    demo_index: ImageIndex,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snippet = re.search(r"```python\n(import mteb.*?)```", PAGE, re.DOTALL)
    assert snippet
    import mteb

    named = re.search(r"get_task\(\"(\w+)\"", snippet[1])
    assert named
    assert mteb.get_task(named[1]).metadata.category == "t2i"

    places = range(0, len(demo_index), 60)
    task = emoji_names(demo_index, places)
    monkeypatch.setattr(mteb, "get_task", lambda name, hf_subsets: task)
    monkeypatch.setattr(socket, "getaddrinfo", _this_machine_only)
    monkeypatch.chdir(tmp_path)
    variables: dict[str, Any] = {}
    exec(snippet[1].replace("http://127.0.0.1:8000", server.url), variables)

    scores = {
        rewrite: {code: _scores(tmp_path, rewrite, code) for code in LANGUAGES}
        for rewrite in ("never", "auto")
    }
    for rewrite, found in scores.items():
        for code in LANGUAGES:
            right = _right_at_1(server, encoder, demo_index, places, code, rewrite)
            assert found[code]["recall_at_1"] == pytest.approx(right, abs=1e-4)
    for code in ("de", "ja"):
        assert scores["auto"][code]["ndcg_at_10"] > scores["never"][code]["ndcg_at_10"] + 0.1
    assert scores["auto"]["en"]["recall_at_1"] > 0.9
    adapter = server.client.get("/info").json()["adapter"]
    assert variables["model"].mteb_model_meta.name == f"grape/{adapter}"


def _scores(folder: Path, rewrite: str, code: str) -> dict[str, float]:
    """From the file that mteb keeps; each way of rewriting has its own folder."""
    [file] = (folder / "mteb-results").glob(f"**/*rewrite_{rewrite}*/**/EmojiNames.json")
    scores = json.loads(file.read_text())["scores"]["test"]
    return next(entry for entry in scores if entry["hf_subset"] == code)


def _right_at_1(
    server: Server,
    encoder: ClipEncoder,
    index: ImageIndex,
    places: range,
    code: str,
    rewrite: str,
) -> float:
    """The share of names whose picture is first, computed from the gallery's own vectors."""
    pictures = index.vectors()[list(places)]
    first = []
    for place in places:
        name = index.metadata[place]["names"][code]
        # One at a time: under load `n: auto` finds fewer rewrites.
        found = server.search(name, k=1, rewrite=rewrite)["rewrite"]
        assert isinstance(found, dict)
        weights = np.array([probability or 1.0 for probability in found["probabilities"]])
        weights *= (1 - found["query_weight"]) / weights.sum()
        cosines = encoder.encode_texts([*found["texts"], name]) @ pictures.T
        exponentials = np.exp(cosines / found["tau"])
        p = exponentials / exponentials.sum(axis=1, keepdims=True)
        first.append((np.array([*weights, found["query_weight"]]) @ p).argmax())
    return float((np.array(first) == np.arange(len(places))).mean())


def _this_machine_only(host: str, *rest: Any, **named: Any) -> Any:
    assert host == "127.0.0.1", f"nothing may be fetched, and {host} was asked for"
    return _getaddrinfo(host, *rest, **named)
