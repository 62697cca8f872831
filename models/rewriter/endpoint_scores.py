"""What a server with OpenAI's API says of probabilities: of a given text, and of its own answer."""

import asyncio
import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from models.rewriter.endpoint_http import Choice, EndpointServer, Logprobs, Refused
from models.rewriter.likelihood import Continuation
from models.rewriter.protocol import Prompt, Sampling, ScoresHidden, WrittenTokens
from models.rewriter.tasks import STOP
from models.rewriter.vision import image_url, picture_to_show, rating_messages

Word = tuple[str, float]  # with its log probability

_CONSIDERED = 5  # tokens at each place; OpenAI's own API gives no more
_AT_ONCE = 25  # prompts in a request: its answer names every token of every prompt


async def echoed_log_likelihoods(
    server: EndpointServer, model: str, asked: Continuation
) -> list[float]:
    """The log-probability that each prompt goes on with the text and ends its line.

    NaN where the server's tokens do not add up to what was sent.

    Raises:
        ScoresHidden: the server refuses to echo, or echoes without log-probabilities.
        RewriteFailed: no answer.
    """
    chunks = [
        asked.prompts[start : start + _AT_ONCE] for start in range(0, len(asked.prompts), _AT_ONCE)
    ]
    answers = await asyncio.gather(
        *(_echoed(server, model, some, asked.text + STOP) for some in chunks)
    )
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
    found = [_of_end(choice, prompt, text) for choice, prompt in zip(choices, prompts, strict=True)]
    if all(value is None for value in found):
        raise _hidden(server)
    return [math.nan if value is None else value for value in found]


async def endpoint_tokens(
    server: EndpointServer, model: str, prompts: Sequence[Prompt], pixels: int
) -> list[WrittenTokens]:
    """The greedy answer to each prompt, with what else the model considered.

    Args:
        pixels: of the images of a prompt together, at most.

    Raises:
        ScoresHidden: the server does not say what it considered.
        RewriteFailed: no answer.
    """
    if prompts[0].candidates:
        return await asyncio.gather(*(_seen_tokens(server, model, one, pixels) for one in prompts))
    texts = [prompt.task.prompt(prompt.query) for prompt in prompts]
    body = {"model": model, **Sampling().parameters(prompts[0]), "prompt": texts}
    choices = await server.complete("/completions", body | {"logprobs": _CONSIDERED})
    hidden = ScoresHidden(
        f"{server.url} does not say what else it considered, which reranking in groups needs: it "
        "would have to take `logprobs` and several prompts"
    )
    if len(choices) != len(prompts):
        raise hidden
    found = []
    for choice in choices:
        told = choice.logprobs
        if not told or told.tokens is None or told.top_logprobs is None:
            raise hidden
        likely = [
            {token: math.exp(value) for token, value in (options or {}).items()}
            for options in told.top_logprobs
        ]
        found.append(WrittenTokens(told.tokens, likely))
    return found


async def _seen_tokens(
    server: EndpointServer, model: str, prompt: Prompt, pixels: int
) -> WrittenTokens:
    """The same for a chat about images."""
    each = pixels // len(prompt.candidates)
    shown = await asyncio.to_thread(
        lambda: [image_url(picture_to_show(data, each)) for data in prompt.candidates]
    )
    body: dict[str, Any] = {
        "model": model,
        **Sampling().parameters(prompt),
        "messages": rating_messages(shown, prompt.query),
        "logprobs": True,
        "top_logprobs": _CONSIDERED,
    }
    choice, *_ = await server.complete("/chat/completions", body)
    if choice.logprobs is None or choice.logprobs.content is None:
        raise ScoresHidden(
            f"{server.url} does not say what else it considered, which rating pictures needs: it "
            "would have to take `logprobs` in a chat"
        )
    written = choice.logprobs.content
    return WrittenTokens(
        [token.token for token in written],
        [{o.token: math.exp(o.logprob) for o in token.top_logprobs} for token in written],
    )


async def tells_scores(server: EndpointServer, model: str) -> bool:
    """Whether the server gives the log-probabilities of a plain, short prompt."""
    try:
        await echoed_log_likelihoods(server, model, Continuation(["Word:"], " dog"))
    except ScoresHidden:
        return False
    return True


def _of_end(choice: Choice, prompt: str, text: str) -> float | None:
    """Of the text behind the prompt; None if it does not say it."""
    logprobs = choice.logprobs
    tokens, values = (logprobs.tokens, logprobs.token_logprobs) if logprobs else (None, None)
    if not tokens or not values or len(tokens) != len(values):
        return None
    if values[0] is None and not prompt.startswith(tokens[0]):
        tokens, values = tokens[1:], values[1:]  # "<bos>", which the server put in front
    start, end = len(prompt), len(prompt + text)
    # It may not be echoed whole, or bytes of a character may be tokens of their own.
    if "".join(tokens)[start:end] != text:
        return None
    ends = list(accumulate(map(len, tokens)))
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


def likely_words(logprobs: Logprobs | None, coverage: float) -> list[Word]:
    """The most probable first words, until they have the coverage.

    A word that ends the answer begins no rewrite.
    """
    tops = (logprobs and logprobs.top_logprobs) or [None]
    words: list[Word] = []
    for word, logprob in sorted((tops[0] or {}).items(), key=lambda item: -item[1]):
        if sum(math.exp(before) for _, before in words) >= coverage:
            break
        if word.strip() and STOP not in word:
            words.append((word, logprob))
    return words
