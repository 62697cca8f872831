"""What a server at --llm-endpoint may stream that is no answer."""

import httpx
import pytest

from models.rewriter.endpoint import EndpointRewriter
from models.rewriter.protocol import Prompt, RewriteFailed, Sampling
from models.rewriter.tasks import LONG
from tests.support.completions import completions


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (['{"choices": [{"text": "a "}]}', '{"choices": [{"text": "cat"}]}', "[DONE]"], "a cat"),
        (['{"choices": []}', '{"choices": [{"text": null}]}', "[DONE]"], ""),
        (["{broken"], None),
    ],
)
async def test_a_stream_is_read_or_refused(lines: list[str], text: str | None) -> None:
    body = "".join(f"data: {line}\n\n" for line in lines)
    headers = {"content-type": "text/event-stream"}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=body, headers=headers))
    rewriter = EndpointRewriter("http://127.0.0.1:9/v1", "x", transport=transport)
    told: list[str] = []
    if text is None:
        with pytest.raises(RewriteFailed):
            await rewriter.complete(Prompt(LONG, "x"), Sampling(), told.append)
    else:
        assert await rewriter.complete(Prompt(LONG, "x"), Sampling(), told.append) == completions(
            text
        )
        assert told[-1] == text
