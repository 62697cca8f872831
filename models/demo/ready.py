"""Whether the demo is prepared. Light to import: the command line checks before it starts."""

from pathlib import Path

from models.common.paths import ADAPTER, DEFAULT_LLM, checkpoint_dir, index_dir, merged_dir
from models.rewriter.adapter import content_hash


def is_prepared(llm: str) -> bool:
    """Whether `grape demo prepare` has nothing to do."""
    ready = checkpoint_dir(llm).is_dir() and (index_dir() / "manifest.json").is_file()
    if llm != DEFAULT_LLM:
        return ready
    attached = Path("/dev/nvidiactl").exists()  # a GPU needs no merged checkpoint
    return ready and (attached or any(merged_dir().glob(f"*-{content_hash(ADAPTER)[:12]}-on-*")))
