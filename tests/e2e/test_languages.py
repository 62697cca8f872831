"""A sample of the README's language table, recomputed with the real engine."""

import re

import numpy as np
import pytest

from benchmarks.languages import recall_at_k, sample
from models.demo import paths
from models.demo.gallery import LANGUAGES
from models.encoder import ClipEncoder
from models.index import ImageIndex
from tests.e2e.server import Server
from tests.e2e.test_docs import README

QUERIES = 60


@pytest.mark.parametrize("language", ["de", "es", "zh", "ja"])
def test_rewriting_beats_the_direct_search_by_far(
    server: Server, encoder: ClipEncoder, language: str
) -> None:
    index = ImageIndex.open(paths.index_dir(), encoder.fingerprint)
    chosen = sample(index, QUERIES)
    ids = [index.ids[position] for position in chosen]
    names = [index.metadata[position]["names"][language] for position in chosen]
    answer = server.client.post("/rewrite", json={"query": names}).json()
    rewrites = [result["rewrites"][0]["text"] for result in answer["results"]]
    direct = recall_at_k(encoder, index, names, ids)
    rewritten = recall_at_k(encoder, index, rewrites, ids)
    row = re.search(rf"\| {LANGUAGES[language]} \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", README)
    assert row
    # Sixty names of the table's population: three standard errors of the difference.
    told = float(row[3])
    allowed = 3 * np.sqrt(told * (1 - told) / QUERIES)
    assert abs(rewritten - told) < allowed
    assert rewritten > direct + 0.1
