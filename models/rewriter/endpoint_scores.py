"""Log-probabilities of a given text, from a server that echoes its prompts."""

import asyncio
from itertools import accumulate
from typing import Any

from models.rewriter.endpoint_http import Choice, EndpointServer, Refused
from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import ScoresHidden

_AT_ONCE = 25  # prompts in a request: its answer names every token of every prompt


async def echoed_log_likelihoods(
    server: EndpointServer, model: str, asked: Continuation
) -> list[float]:
    """The log-probability that each prompt goes on with the text.

    Raises:
        ScoresHidden: the server refuses to echo, or echoes without log-probabilities.
        RewriteFailed: no answer.
    """
    chunks = [
        asked.prompts[start : start + _AT_ONCE] for start in range(0, len(asked.prompts), _AT_ONCE)
    ]
    answers = await asyncio.gather(*(_echoed(server, model, some, asked.text) for some in chunks))
    return [value for answer in answers for value in answer]


async def _echoed(server: EndpointServer, model: str, prompts: list[str], text: str) -> list[float]:
    body: dict[str, Any] = {
        "model": model,
        "prompt": [prompt + text for prompt in prompts],
        "max_tokens": 1,  # not every server takes 0
        "temperature": 0.0,
        "echo": True,
        "logprobs": 0,
    }
    try:
        choices = await server.complete("/completions", body)
    except Refused as error:
        if not error.blames_parameters:
            raise
        raise _hidden(server) from error
    if len(choices) != len(prompts):
        raise _hidden(server)
    found = [
        _of_end(choice, len(prompt), len(prompt + text))
        for choice, prompt in zip(choices, prompts, strict=True)
    ]
    known = [value for value in found if value is not None]
    if len(known) < len(found):
        raise _hidden(server)
    return known


def _of_end(choice: Choice, start: int, end: int) -> float | None:
    """Of the characters from ``start`` to ``end``; None if it does not say it."""
    logprobs = choice.logprobs
    tokens, values = (logprobs.tokens, logprobs.token_logprobs) if logprobs else (None, None)
    if not tokens or not values or len(tokens) != len(values):
        return None
    ends = list(accumulate(map(len, tokens)))
    if ends[-1] < end:  # it was not echoed whole
        return None
    # A token that begins in the prompt counts whole, and for every prompt alike.
    own = [
        value
        for value, last, token in zip(values, ends, tokens, strict=True)
        if last > start and last - len(token) < end
    ]
    known = [value for value in own if value is not None]
    return sum(known) if known and len(known) == len(own) else None


def _hidden(server: EndpointServer) -> ScoresHidden:
    return ScoresHidden(
        f"{server.url} gives no log-probabilities of a prompt, which reranking by likelihood "
        "needs: it would have to take `echo` together with `logprobs`"
    )
