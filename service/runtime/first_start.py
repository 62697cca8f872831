"""What a server that starts with an empty cache needs first, if its settings ask for it."""

import subprocess
import sys

from models.common.errors import GrapeError
from models.common.paths import DEMO_LLM_NAMES
from models.demo.ready import is_prepared


def prepare_demo(llm: str, elsewhere: bool) -> None:
    """Runs `grape demo prepare` for one of the demo's language models, unless that has been done.

    It runs in another process, because preparing takes gigabytes of memory.

    Args:
        elsewhere: whether an endpoint has the language model, so that nothing is needed here.

    Raises:
        GrapeError: it failed, and has printed why.
    """
    if elsewhere or llm not in DEMO_LLM_NAMES or is_prepared(llm):
        return
    command = [sys.executable, "-m", "grape", "demo", "prepare", "--llm", llm]
    if subprocess.run(command, check=False).returncode:
        raise GrapeError("the demo could not be prepared; the lines above say why.")
