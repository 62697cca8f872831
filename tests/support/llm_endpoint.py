"""An OpenAI-compatible server in a process of its own that answers queries from a table.

`python -m tests.support.llm_endpoint PORT`. It stands for a `vllm serve` that is shared.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REWRITES = {"ein rotes Bild": "a red square", "un carré bleu": "a blue square"}
_TAKES_S = 0.05  # for a completion


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        known = {"object": "list", "data": [{"id": "stand-in", "object": "model"}]}
        self._answer(known if self.path == "/v1/models" else None)

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(_TAKES_S)
        prompt = str(asked.get("prompt", ""))
        text = next((new for old, new in REWRITES.items() if old in prompt), "a square")
        logprobs = {"tokens": [text], "token_logprobs": [-0.1], "top_logprobs": None}
        choice = {"index": 0, "text": f" {text}", "logprobs": logprobs, "finish_reason": "stop"}
        self._answer({"object": "text_completion", "model": "stand-in", "choices": [choice]})

    def _answer(self, found: dict[str, Any] | None) -> None:
        content = json.dumps(found or {"error": {"message": "not found"}}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
