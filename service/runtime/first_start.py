"""What a server that starts in an empty folder needs first, where its settings ask for that."""

import subprocess
import sys

from models.common.errors import GrapeError
from models.demo.ready import is_prepared


def prepare_demo(llm: str, elsewhere: bool) -> None:
    """Runs `grape demo prepare` for one of the demo's language models, unless that was done.

    Preparing takes gigabytes of memory that the server shall not keep, hence another process.

    Args:
        elsewhere: an endpoint has the language model; nothing is needed here.

    Raises:
        GrapeError: it failed, and has said why.
    """
    from models.demo.llm import DEMO_LLMS

    if elsewhere or llm not in DEMO_LLMS or is_prepared(llm):
        return
    command = [sys.executable, "-m", "grape", "demo", "prepare", "--llm", llm]
    if subprocess.run(command, check=False).returncode:
        raise GrapeError("the demo could not be prepared; the lines above say why.")
