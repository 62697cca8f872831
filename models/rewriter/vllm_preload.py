"""Runs in the fork server: imports what vLLM's engine needs on a CPU, and exits with its user.

Only imports and the watch: a thread that is started here does not exist in the forked engine.
"""

import os
import select
import threading

import vllm.model_executor.model_loader.default_loader
import vllm.v1.attention.backends.cpu_attn
import vllm.v1.engine.core
import vllm.v1.executor.uniproc_executor
import vllm.v1.worker.cpu_worker  # noqa: F401

# Set by models/rewriter/vllm_engine.py before the fork server starts.
USER_PID = "GRAPE_ENGINE_USER_PID"


def _watch_user() -> None:
    """Ends this process when the process that uses the engine has ended, even if it was killed.

    Otherwise an engine that takes gigabytes would stay behind.
    """

    def wait() -> None:
        try:
            user = os.pidfd_open(int(os.environ[USER_PID]))
            select.select([user], [], [])
        except ProcessLookupError:
            pass
        os._exit(1)

    threading.Thread(target=wait, name="watch-user", daemon=True).start()


os.register_at_fork(after_in_child=_watch_user)
_watch_user()
