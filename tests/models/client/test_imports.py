"""What the client does to the process that imports it."""

import subprocess
import sys


def test_it_is_imported_by_the_name_of_the_project_and_imports_nothing_heavy() -> None:
    probe = (
        "import sys; from grape import AsyncClient, Client, ClientError; Client(); "
        "print(sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = run_python(probe)
    assert "'httpx'" in done.stdout
    for heavy in (
        "numpy", "PIL", "torch", "pydantic_settings", "yaml", "vllm", "fastapi", "faiss",
        "open_clip", "transformers", "mcp", "prometheus_client",
    ):  # fmt: skip
        assert f"'{heavy}'" not in done.stdout


def test_a_retry_logs_nothing_and_counts_nothing() -> None:
    """A program that has configured no logging would see a warning of any library on stderr."""
    done = run_python(
        "import sys, httpx; from models.client import Client; "
        "turned_away = httpx.MockTransport(lambda _: httpx.Response(503, json={'error': 'x', "
        "'error_type': 'unavailable', 'request_id': 'r'})); "
        "client = Client(transport=turned_away, attempts=2)\n"
        "try: client.info()\n"
        "except Exception as error: print(repr(error), 'prometheus_client' in sys.modules)"
    )
    assert (done.stdout, done.stderr) == ("ClientError('x') False\n", "")


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True)
