"""Several completions at once, of which those that are finished in time are enough."""

import asyncio
from typing import Any

from models.rewriter.endpoint_http import Choice, EndpointServer


class Heard:
    """What has been said of one completion so far."""

    def __init__(self) -> None:
        self.text = ""
        self.logprob = 0.0
        self.finished = False

    @classmethod
    def of(cls, choice: Choice) -> "Heard":
        heard = cls()
        heard.add(choice)
        return heard

    def add(self, choice: Choice) -> None:
        self.text += choice.said
        self.logprob += choice.logprob
        self.finished = self.finished or choice.finish_reason is not None


async def stream_until(
    server: EndpointServer, route: str, body: dict[str, Any], wanted: int, within_s: float
) -> tuple[dict[int, Heard], int]:
    """Streams several completions. After ``within_s`` seconds, those that are finished do.

    If none is finished by then, waits for the first. If the stream breaks, those that are finished
    do as well.

    Returns:
        The finished ones by their place, and how many were given up.
    """
    heard: dict[int, Heard] = {}
    any_finished = asyncio.Event()

    def on_part(choice: Choice) -> None:
        if 0 <= choice.index < wanted:
            own = heard.setdefault(choice.index, Heard())
            own.add(choice)
            if own.finished:
                any_finished.set()

    reading = asyncio.create_task(server.stream(route, body, on_part))
    waiting = asyncio.create_task(any_finished.wait())
    try:
        await asyncio.wait({reading}, timeout=within_s)
        await asyncio.wait({reading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        broken = reading.done() and reading.exception() is not None
        if reading.done() and not (broken and any_finished.is_set()):
            reading.result()
            return dict(sorted(heard.items())), 0
        finished = {place: heard[place] for place in sorted(heard) if heard[place].finished}
        return finished, wanted - len(finished)
    finally:
        for task in (reading, waiting):
            task.cancel()
        await asyncio.gather(reading, waiting, return_exceptions=True)
