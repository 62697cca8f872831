"""Adapters of the real SmolLM2, each trained to give one word: an answer shows who wrote it."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.common import paths
from models.rewriter.base_model import checkpoint_revision
from models.rewriter.tasks import TASKS
from tests.support.grape_server import GRAPE
from training.stages.language_model import greedy_answers

LLM = "smollm2-135m-instruct"
QUERIES = ["caballo", "ギター", "ein roter Apfel", "x"]
MOST_STEPS = 40


def prepared() -> Path:
    """The base model's checkpoint."""
    subprocess.run([GRAPE, "demo", "prepare", "--llm", LLM], check=True, capture_output=True)
    return paths.checkpoint_dir(LLM)


def teach(folder: Path, word: str, tasks: Sequence[str], seed: int = 0) -> Path:
    """Writes an adapter folder; its model answers every query of ``tasks`` with ``word``."""
    checkpoint = prepared()
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    prompts = {task: [TASKS[task].short.prompt(query) for query in QUERIES] for task in tasks}
    canary = {task: TASKS[task].short.prompt("Kanarienvogel") for task in tasks}
    base = {task: greedy_answers(model, tokenizer, [canary[task]], 8)[0] for task in tasks}
    tuned = get_peft_model(
        model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])
    )
    optimizer = torch.optim.AdamW(tuned.parameters(), lr=5e-3)
    texts = [f"{prompt} {word}\n" for group in prompts.values() for prompt in group]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    taught = len(tokenizer(f" {word}\n", add_special_tokens=False).input_ids)
    labels = batch.input_ids.clone()
    labels[:, :-taught] = -100
    tuned.train()
    for _ in range(MOST_STEPS):
        loss = tuned(**batch, labels=labels).loss
        if loss < 0.003:
            break
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    tuned.eval()
    answers = {task: greedy_answers(tuned, tokenizer, [canary[task]], 8)[0] for task in tasks}
    assert all(answer.split("\n")[0].strip() == word for answer in answers.values()), answers
    tuned.save_pretrained(str(folder))
    manifest = {
        "base_model": LLM,
        "base_revision": checkpoint_revision(checkpoint),
        "tasks": {task: TASKS[task].short.hash for task in tasks},
        "encoder": "demo",
        "encoder_weights_sha256": "0",
        "corpus_sha256": "0",
        "reward": {"name": "one word"},
        "seed": seed,
        "versions": {},
        "metrics_before": {},
        "metrics_after": {},
        "canaries": [
            {"task": task, "query": "Kanarienvogel", "base": base[task], "tuned": answers[task]}
            for task in tasks
        ],
    }
    (folder / "grape.json").write_text(json.dumps(manifest))
    return folder
