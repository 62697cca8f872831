"""What serving and training share: the frozen retriever and the rewriter."""

import os

from models.common import torchvision_shim

# Before a library is imported that would report its use: huggingface_hub (TRL tells it of every
# training) and vLLM. What the user has set stays.
for _name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

torchvision_shim.install()
