"""A server with OpenAI's completions API that knows a few words, for `grape data from-captions`."""

import base64
import contextlib
import io
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image


class CaptionServer:
    """Answers what its table has for the last question of a prompt, and nothing else.

    A question is what is asked, behind the label of the answer: ``German: elephant``.

    Attributes:
        asked: the questions, in the order in which they came.
        allowed: takes one for each answer; None allows any number.
    """

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.allowed: threading.Semaphore | None = None
        self.url = ""

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        if "messages" in body:
            said = self._said_of(body["messages"][0]["content"])
            return {"choices": [{"index": 0, "message": {"content": said}}]}
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        questions = [_question(prompt) for prompt in prompts]
        self.asked += questions
        if self.allowed:
            self.allowed.acquire()
        texts = [self.answers.get(question, "") for question in questions]
        return {"choices": [{"index": n, "text": f" {text}"} for n, text in enumerate(texts)]}

    def _said_of(self, content: list[dict[str, Any]]) -> str:
        """The caption of a picture of one colour; the table has it by its red, green and blue."""
        shown = next(part["image_url"]["url"] for part in content if part["type"] == "image_url")
        picture = Image.open(io.BytesIO(base64.b64decode(shown.split(",")[1])))
        self.asked.append("picture")
        return self.answers.get(str(picture.convert("RGB").getpixel((0, 0))), "")


def _question(prompt: str) -> str:
    *_, asked, label = prompt.splitlines()
    return f"{label} {asked.split(': ', 1)[1]}"


@contextlib.contextmanager
def caption_server(answers: Mapping[str, str]) -> Iterator[CaptionServer]:
    """The server on a free port of the loopback address."""
    server = CaptionServer(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            content = json.dumps(server.complete(body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # who asked may have been killed
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
