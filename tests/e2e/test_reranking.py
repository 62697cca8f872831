"""Reranking with the demo's real parts: the likelihoods are the model's own, and they help."""

import json
import math
import shlex
import subprocess

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import grape
from models.client import Client
from models.common import paths
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import checkpoint_revision, find_checkpoint
from models.rewriter.merge import merge_adapter
from models.search.compare import read_for
from models.search.rerank import comparison
from tests.e2e.test_docs import ROOT, shell_lines
from tests.support.grape_server import GRAPE, Server
from training.data.demo.names_and_descriptions import demo_rows

TRAIN = ".venv/bin/grape train --config training/demo-rerank.yaml"
SERVE = ".venv/bin/grape serve --rerank-adapter models/demo/reranker"
DOCUMENTS = ["dog", "red roof", "cauldron", "horse", "dog face", "hot dog"]


def reference(query: str, texts: list[str]) -> list[float]:
    """p(text | query) by transformers, in float32."""
    checkpoint = find_checkpoint(paths.DEFAULT_LLM)
    adapter = open_adapter(paths.ADAPTER, checkpoint_revision(checkpoint))
    folder = merge_adapter(checkpoint, adapter, paths.merged_dir())
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    asked = comparison("likelihood", query, texts)
    assert asked
    scored = len(tokenizer.encode(f" {query}\n", add_special_tokens=False))
    found = []
    for text in read_for(asked):
        ids = torch.tensor([tokenizer.encode(text + "\n")])
        with torch.no_grad():
            logprobs = model(ids, logits_to_keep=scored + 1).logits[0, :-1].log_softmax(-1)
        found.append(float(logprobs.gather(1, ids[0, -scored:, None]).sum()))
    highest = max(found)
    total = sum(math.exp(score - highest) for score in found)
    return [math.exp(score - highest) / total for score in found]


def test_likelihoods_are_those_of_the_model(server: Server) -> None:
    query = "ein kleiner brauner Hund auf einer Wiese"
    with Client(server.url) as grape:
        answer = grape.rerank(query, DOCUMENTS)
    assert answer.rerank.status == "reranked"
    wanted = dict(zip(DOCUMENTS, reference(query, DOCUMENTS), strict=True))
    found = {DOCUMENTS[one.index]: one.relevance_score or 0 for one in answer.results}
    # bfloat16 has 8 bits: a logit of 20 is right within .06, and there are several tokens.
    assert {text: math.log(p) for text, p in found.items()} == pytest.approx(
        {text: math.log(p) for text, p in wanted.items()}, abs=0.7
    )


def test_reranking_finds_more_right_pictures_first(server: Server) -> None:
    names = [r for r in demo_rows() if r.split == "test" and r.language in ("es", "fr", "it")]
    rows = names[:: len(names) // 24]
    with Client(server.url, timeout_s=120) as client:
        before = [client.search(row.query, k=1).hits[0].id in row.targets for row in rows]
        reranked = [client.search(row.query, k=1, rerank=True) for row in rows]
    after = [found.hits[0].id in row.targets for found, row in zip(reranked, rows, strict=True)]
    assert sum(after) > sum(before)


def test_the_settings_of_the_page_train_a_reranker(capsys: pytest.CaptureFixture[str]) -> None:
    """The run itself takes half an hour; tests/training/rerank has small ones."""
    command = shlex.split(TRAIN)[1:]
    assert grape.run([*command, "--dry-run", "--dry-run-queries", "2"]) == 0
    assert "Training can gain" in capsys.readouterr().out


def test_the_commands_of_the_page(server: Server) -> None:
    page = (ROOT / "docs" / "reranking.md").read_text()
    shell, search, rerank, *trained = shell_lines(page)
    assert trained == [TRAIN, SERVE]
    local = [line.replace("http://127.0.0.1:8000", server.url) for line in (shell, search, rerank)]
    said = [
        subprocess.run(
            line.replace(".venv/bin/grape", str(GRAPE)),
            shell=True, capture_output=True, text=True, check=True,
        ).stdout
        for line in local
    ]  # fmt: skip
    assert said[0].startswith("rank\tscore\tid")
    assert json.loads(said[1])["rerank"]["status"] == "reranked"
    answer = json.loads(said[2])
    assert answer["rerank"]["status"] == "reranked"
    assert {one["index"] for one in answer["results"]} == {0, 1, 2}
