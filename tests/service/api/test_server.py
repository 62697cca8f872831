"""Shutting down."""

import subprocess
import sys

import psutil

# In a process of its own: it ends all of its children.
SCRIPT = """
import subprocess, sys, time
from multiprocessing import resource_tracker
from service.api.server import _end_children

resource_tracker.ensure_running()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
started = time.monotonic()
_end_children()
print(time.monotonic() - started, child.pid, resource_tracker._resource_tracker._pid)
"""


def test_children_are_ended_at_once_and_the_resource_tracker_follows() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=30
    )
    seconds, child, tracker = done.stdout.split()
    assert float(seconds) < 1.5
    for pid in map(int, (child, tracker)):
        if psutil.pid_exists(pid):
            psutil.Process(pid).wait(5)
