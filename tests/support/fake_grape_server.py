"""A fake of GRAPE's HTTP routes on the loopback address; tests decide what it answers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

from models.retriever.clip_encoder import ClipEncoder

TAU = 0.05  # of its mixtures


class FakeServer:
    """Answers three routes; ``rewrites`` holds the rewrites of each query."""

    def __init__(self, encoder: ClipEncoder) -> None:
        self.rewrites: dict[str, list[str]] = {}
        self.parts = 1
        self.not_ready = ""
        self.overloaded = 0  # how many searches to refuse
        self.fails_with: tuple[int, bytes] | None = None
        self.searches: list[dict[str, Any]] = []
        self.info = {
            "versions": {"grape": "0.1.0"},
            "llm": "org/some-model",
            "llm_endpoint": None,
            "adapter": None,
            "rewrite": "auto",
            "fusion": "rewrite",
            "clip_token_limit": 77,
            "index": {"encoder": encoder.fingerprint.model_dump(), "count": 5},
            "limits": {"max_queries": 3, "max_in_flight": 256},
        }

    def answer(self, route: str, body: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        if route == "/readyz":
            rewriter = {"ready": not self.not_ready, "reason": self.not_ready}
            loaded = {"ready": True, "reason": ""}
            parts = {"encoder": loaded, "index": loaded, "rewriter": rewriter}
            return (503 if self.not_ready else 200), {"ready": not self.not_ready, **parts}, {}
        if route == "/info":
            return 200, self.info, {}
        self.searches.append(body)
        if self.overloaded:
            self.overloaded -= 1
            return 429, refusal("too much", "overloaded"), {"Retry-After": "7"}
        return 200, {"results": [self.result(query, body) for query in body["query"]]}, {}

    def result(self, query: str, body: dict[str, Any]) -> dict[str, Any]:
        return {
            "query": query,
            "rewrite": self.searched_with(query, body),
            "hits": [],
            "confident": False,
            "timings_ms": dict.fromkeys(("rewrite", "encode", "search", "total"), 0.0),
            "index": "pictures",
            "degraded": False,
            "request_id": "r-1",
        }

    def searched_with(self, query: str, body: dict[str, Any]) -> dict[str, Any]:
        texts = self.rewrites.get(query)
        answer = {"clip_tokens": [3], "truncated": False, "adapter": None, "tau": TAU}
        answer |= {"query_weight": 0.0, "probabilities": [0.5] * len(texts or [query])}
        if texts:
            answer |= {"status": "rewritten", "reason": "not plain English", "texts": texts}
            return answer | {"parts": self.parts, "fusion": body["fusion"]}
        answer |= {"status": "kept" if texts is None else "fallback", "reason": "because"}
        return answer | {"texts": [query], "parts": 1, "fusion": "rewrite"}


def refusal(sentence: str, error_type: str) -> dict[str, str]:
    return {"error": sentence, "error_type": error_type, "request_id": "r-1"}


@contextmanager
def fake_server(encoder: ClipEncoder) -> Iterator[SimpleNamespace]:
    fake = FakeServer(encoder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            status, content, headers = fake.answer(self.path, body)
            data = json.dumps(content).encode()
            if fake.fails_with and self.path == "/search":
                status, data = fake.fails_with
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield SimpleNamespace(fake=fake, url=f"http://127.0.0.1:{http.server_port}")
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
