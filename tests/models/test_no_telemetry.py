"""Nothing that GRAPE imports reports its use."""

import os
import subprocess
import sys

import pytest

LIBRARIES = """
import models
from huggingface_hub import constants
from huggingface_hub.utils import _telemetry
from vllm.usage.usage_lib import is_usage_stats_enabled

_telemetry.send_telemetry("trl/SFTTrainer", library_name="trl")
print(constants.HF_HUB_DISABLE_TELEMETRY, is_usage_stats_enabled(), _telemetry._TELEMETRY_THREAD)
"""


@pytest.mark.heavy
def test_libraries_are_told_not_to_report() -> None:
    settings = ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS", "HF_HUB_OFFLINE")
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    told = subprocess.run(
        [sys.executable, "-c", LIBRARIES], env=environment, capture_output=True, text=True
    )
    assert told.stdout.split() == ["True", "False", "None"], told.stderr
