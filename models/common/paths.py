"""Where the demo's parts are. Light to import: the command line needs it before it starts."""

import functools
import hashlib
import os
from pathlib import Path

import platformdirs

_DEMO = Path(__file__).parent.parent / "demo"

ENCODER_DIR = _DEMO / "encoder"
ENCODER = f"local-dir:{ENCODER_DIR}"
ADAPTER = _DEMO / "adapter"  # trained for this gallery, on DEFAULT_LLM
RERANKER = _DEMO / "reranker"  # likewise; for --rerank-adapter
DEFAULT_LLM = "gemma3-270m"
DEMO_LLM_NAMES = (DEFAULT_LLM, "smollm2-135m-instruct")  # models/demo/llm.py prepares them
_GALLERY = 3  # increased when the index changes although the encoder does not


def cache_dir() -> Path:
    """GRAPE_CACHE, else the user's cache folder."""
    return Path(os.environ.get("GRAPE_CACHE") or platformdirs.user_cache_dir("grape"))


def demo_dir() -> Path:
    """The folder of everything that `grape demo prepare` makes."""
    return cache_dir() / "demo"


def index_dir() -> Path:
    """The gallery's index. A new encoder in the repository gets a new folder."""
    return demo_dir() / f"index-{_encoder_sha256()[:12]}-{_GALLERY}"


@functools.cache
def _encoder_sha256() -> str:
    weights = (ENCODER_DIR / "open_clip_model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest()


def pictures_dir() -> Path:
    """The gallery's drawings as SVG files."""
    return demo_dir() / "pictures"


def checkpoint_dir(llm: str) -> Path:
    """Where a demo language model's converted checkpoint is, once prepared."""
    return demo_dir() / "llm" / llm


def merged_dir() -> Path:
    """Checkpoints with a merged adapter, which is how a CPU serves one."""
    return cache_dir() / "merged"
