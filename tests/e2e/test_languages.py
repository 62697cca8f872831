"""A sample of the README's table, recomputed with the real engine and the shipped adapter."""

import re

import numpy as np
import pytest

from benchmarks.languages import sample
from models.demo.gallery import LANGUAGES
from models.encoder import ClipEncoder
from models.index import ImageIndex
from tests.e2e.server import Server
from tests.e2e.test_docs import README
from training.ranking import Corpus
from training.scoring import Retriever, Scorer, recall_at

QUERIES = 60


@pytest.mark.parametrize("language", ["de", "es", "zh", "ja"])
def test_rewriting_beats_the_direct_search_by_far(
    server: Server, encoder: ClipEncoder, demo_index: ImageIndex, language: str
) -> None:
    rows = sample(language, QUERIES)
    queries = [row.query for row in rows]
    body = {"query": queries, "task": "multilingual"}
    answer = server.client.post("/rewrite", json=body).json()
    rewrites = [result["rewrites"][0]["text"] for result in answer["results"]]
    scorer = Scorer(Retriever(encoder, demo_index, Corpus.of(demo_index.vectors())))
    targets = [row.targets for row in rows]
    direct = recall_at(10, scorer.rank(queries, targets))
    rewritten = recall_at(10, scorer.rank(rewrites, targets))
    row = re.search(rf"\| {LANGUAGES[language]} \| (\d+) \|.*\| ([\d.]+) \[.*\|", README)
    assert row
    # Sixty names of the table's population: three standard errors of the difference.
    told = float(row[2])
    allowed = 3 * np.sqrt(told * (1 - told) / QUERIES)
    assert abs(rewritten - told) < allowed
    assert rewritten > direct + 0.1
