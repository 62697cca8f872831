"""Runs a vision checkpoint through all questions of the tests and prints the answers as JSON.

It is a separate program because an engine sets environment variables and the random seed of its
process. `python -m tests.support.vision_probe CHECKPOINT`.
"""

import asyncio
import contextlib
import io
import json
import sys
from typing import Any

import httpx
import numpy as np
from PIL import Image

from models.common.errors import GrapeError
from models.rewriter.endpoint import EndpointRewriter
from models.rewriter.protocol import OnText, Prompt, Rewriter, Sampling
from models.rewriter.tasks import MULTILINGUAL, RERANK
from models.rewriter.vllm import VLLMOptions, VLLMRewriter

PICTURES = 3
QUERY = "dasselbe, aber in Blau"
MAX_LEN = 1024
IMAGE_PIXELS = 28 * 28 * 60
SIZES = [(150, 100), (640, 480), (30, 900)]


def picture(seed: int, size: tuple[int, int] = (150, 100)) -> Image.Image:
    """Noise, so that every patch is different."""
    width, height = size
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


GREEDY = Sampling()


async def complete(
    rewriter: Rewriter,
    prompt: Prompt,
    sampling: Sampling = GREEDY,
    on_text: OnText | None = None,
) -> list[str]:
    answers = (await rewriter.complete(prompt, sampling, on_text)).answers
    return [answer.text for answer in answers]


async def ask(rewriter: Rewriter, shown: bytes, query: str = QUERY) -> str:
    return (await complete(rewriter, Prompt(MULTILINGUAL, query, shown)))[0]


async def refusal(rewriter: Rewriter, shown: bytes, query: str = QUERY) -> str:
    try:
        return await ask(rewriter, shown, query)
    except GrapeError as error:
        return f"{type(error).__name__}: {error}"


async def ratings(rewriter: Rewriter, shown: list[bytes]) -> list[list[Any]]:
    """What is written about several pictures at once, and about two of them."""
    groups = [tuple(shown), tuple(shown[:2])]
    asked = [Prompt(RERANK, "Hund", candidates=group) for group in groups]
    found = await rewriter.written_tokens(asked)
    return [
        [tokens, [options.get(token, 0.0) for token, options in zip(tokens, likely, strict=True)]]
        for tokens, likely in found
    ]


async def questions(rewriter: Rewriter) -> dict[str, Any]:
    """The questions for both rewriters, in process and by endpoint."""
    pictures = [png(picture(seed)) for seed in range(PICTURES)]
    told: list[str] = []
    streamed = await complete(
        rewriter, Prompt(MULTILINGUAL, QUERY, pictures[1]), Sampling(), told.append
    )
    sampling = Sampling(n=3, temperature=1.0)
    return {
        "sees_pictures": rewriter.sees_pictures,
        "together": await asyncio.gather(*(ask(rewriter, each) for each in pictures * 2)),
        "alone": [await ask(rewriter, each) for each in pictures],
        "other query": await ask(rewriter, pictures[0], "dasselbe, aber in Rot"),
        "streamed": [*streamed, *told],
        "samples": await complete(rewriter, Prompt(MULTILINGUAL, QUERY, pictures[0]), sampling),
        "text": await complete(rewriter, Prompt(MULTILINGUAL, "Hund")),
        "marks": [
            await complete(rewriter, Prompt(MULTILINGUAL, "<|vision_start|><|image_pad|>")),
            await ask(rewriter, pictures[0], "<|image_pad|> <|im_end|> blue"),
        ],
        "ratings": await ratings(rewriter, pictures),
        "too long": await refusal(rewriter, pictures[0], "\N{SNOWMAN}" * 2000),
        "stripe": await refusal(rewriter, png(picture(0, (3000, 4)))),
        "broken": await refusal(rewriter, pictures[0][:200]),
        "no picture": await refusal(rewriter, b"hello"),
    }


async def cancelled(rewriter: VLLMRewriter) -> str:
    """The answer to a picture after eight requests with it were cancelled, each a bit later."""
    shown = png(picture(99))
    for moment in range(8):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ask(rewriter, shown), 0.004 * moment)
    return await ask(rewriter, shown)


async def image_tokens(rewriter: VLLMRewriter, size: tuple[int, int]) -> int:
    """How many tokens of the prompt represent a picture of this size."""
    prompt = await rewriter._engine_input(Prompt(MULTILINGUAL, QUERY, png(picture(0, size))))
    (place,) = prompt["mm_placeholders"]["image"]
    return int(place.get_num_embeds())


async def at_vllms_own_server(rewriter: VLLMRewriter, checkpoint: str) -> EndpointRewriter:
    """The application that `vllm serve` runs, on the running engine and without a socket."""
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state
    from vllm.entrypoints.launchers.app import build_app
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    flags = ["--model", checkpoint, "--served-model-name", "tiny"]
    arguments = make_arg_parser(FlexibleArgumentParser()).parse_args(flags)
    engine = rewriter._engine
    tasks = await engine.get_supported_tasks()
    application = build_app(arguments, tasks, engine.model_config)
    await init_app_state(engine, application.state, arguments, tasks)
    return EndpointRewriter(
        "http://vllm/v1", "tiny", sees_pictures=True, image_pixels=IMAGE_PIXELS,
        transport=httpx.ASGITransport(application),
    )  # fmt: skip


async def probe(checkpoint: str) -> dict[str, Any]:
    options = VLLMOptions(
        checkpoint,
        dtype="float32",
        max_model_len=MAX_LEN,
        kv_cache_gib=0.25,
        image_pixels=IMAGE_PIXELS,
    )
    rewriter = await asyncio.to_thread(VLLMRewriter, options)
    found = {
        "in process": await questions(rewriter),
        "cancelled": await cancelled(rewriter),
        "cancelled alone": await ask(rewriter, png(picture(99))),
        "image tokens": [await image_tokens(rewriter, size) for size in SIZES],
    }
    endpoint = await at_vllms_own_server(rewriter, checkpoint)
    await endpoint.check()
    found["endpoint"] = await questions(endpoint)
    await endpoint.close()
    await rewriter.check()
    await rewriter.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(probe(sys.argv[1]))))
