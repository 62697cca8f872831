"""What the engine's start leaves in the environment."""

import os
import subprocess
import sys
from pathlib import Path

_CODE = """
import sys
from models.rewriter.vllm_engine import VLLMOptions, _set_environment
_set_environment(VLLMOptions(sys.argv[1]))
import os
from huggingface_hub import constants
print(os.environ["HF_HUB_OFFLINE"], constants.HF_HUB_OFFLINE)
"""


def test_the_engine_is_offline_and_this_process_can_still_fetch_an_encoder(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(tmp_path)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "False"]
