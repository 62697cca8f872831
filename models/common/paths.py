"""Where the demo's parts lie. Imports nothing heavy: the command line asks before it starts."""

import functools
import hashlib
import os
from pathlib import Path

import platformdirs

_DEMO = Path(__file__).parent.parent / "demo"

ENCODER_DIR = _DEMO / "encoder"
ENCODER = f"local-dir:{ENCODER_DIR}"
ADAPTER = _DEMO / "adapter"  # trained for this gallery, on DEFAULT_LLM
DEFAULT_LLM = "gemma3-270m"
_GALLERY = 2  # raised when the same encoder's index is made otherwise


def cache_dir() -> Path:
    """GRAPE_CACHE, else the user's cache folder."""
    return Path(os.environ.get("GRAPE_CACHE") or platformdirs.user_cache_dir("grape"))


def demo_dir() -> Path:
    """Everything that `grape demo prepare` makes."""
    return cache_dir() / "demo"


def index_dir() -> Path:
    """The gallery's index. Another encoder in the repository means another folder."""
    return demo_dir() / f"index-{_encoder_sha256()[:12]}-{_GALLERY}"


@functools.cache
def _encoder_sha256() -> str:
    weights = (ENCODER_DIR / "open_clip_model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest()


def pictures_dir() -> Path:
    """The gallery's drawings as SVG files."""
    return demo_dir() / "pictures"


def checkpoint_dir(llm: str) -> Path:
    """Where a demo language model's converted checkpoint lies once it is prepared."""
    return demo_dir() / "llm" / llm


def merged_dir() -> Path:
    """Checkpoints with an adapter merged into them, which is how a CPU serves one."""
    return cache_dir() / "merged"
