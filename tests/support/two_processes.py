"""A command in two processes on this machine's CPU.

`accelerate launch --cpu --num_processes 2` starts a single one.
"""

import os
import subprocess
import sys


def run_twice(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a module; its two processes know of each other."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.run(
        [*launch, "-m", module, *map(str, arguments)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
