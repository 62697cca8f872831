"""A query about an image, for a language model that sees it: prompt, image and messages.

The answer is parsed by :func:`models.rewriter.tasks.parse_rewrite`, like every other.
"""

import base64
import hashlib
import io
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `grape search --url` reads a constant here and works without Pillow
    from PIL import Image

# Markers such as <|image_pad|> or [IMG] stand for an image in a prompt; a query must not have one.
_MARKS = str.maketrans(dict.fromkeys('<>[]|"', " "))

# A Qwen vision model reads 28 x 28 pixels as one token, so this is 768 tokens. Its authors
# recommend 256 to 1,280, and a context of 2,048 leaves room for the instruction and the answer.
IMAGE_PIXELS = 28 * 28 * 768


@dataclass(frozen=True)
class SeenTask:
    """The prompt for a model that sees the image.

    It is a chat, because only the model's own template knows where an image goes in a prompt.
    """

    instruction: str  # with {query} in place of the user's words
    max_tokens: int  # of the caption
    max_chars: int  # of the query; the model does not see the rest of a longer one

    def prompt(self, query: str) -> str:
        """The text that accompanies the image. The query cannot break out of its quotes."""
        composed = unicodedata.normalize("NFC", query)  # one query for all encodings of accents
        shown = " ".join(composed.translate(_MARKS).split())[: self.max_chars]
        return self.instruction.format(query=shown)

    @property
    def hash(self) -> str:
        """Changes with the prompt and with its limits."""
        parts = repr((self.prompt("{query}"), self.max_tokens, self.max_chars))
        return hashlib.sha256(parts.encode()).hexdigest()


SEEN = SeenTask(
    instruction=(
        "Look at the picture. A person is looking for another picture and says, in any language, "
        'how it differs from this one: "{query}"\n'
        "Describe the picture that the person wants, not this one, in one short English caption "
        "of at most fifteen words. Keep what the person does not change. Answer with the caption "
        "alone."
    ),
    max_tokens=32,
    max_chars=2000,
)


# For an image without any words about it: what `grape data from-captions --see` asks.
CAPTION = SeenTask(
    instruction=(
        "Look at the picture. Say what it shows in one short English caption of at most fifteen "
        "words, as somebody would who looks for it. Answer with the caption alone."
    ),
    max_tokens=32,
    max_chars=2000,
)


def seen_task(query: str) -> SeenTask:
    """The prompt for an image and what is said about it, which may be nothing."""
    return SEEN if query else CAPTION


# For the pictures of a group of candidates, as `tasks.RERANK` is for their captions.
RATED = SeenTask(
    instruction=(
        "Look at the pictures. A person is looking for a picture and types, in any language: "
        '"{query}"\n'
        "Rate how well each picture shows what the person is looking for, from 0 (not at all) to 9 "
        "(exactly). Answer with one digit for each picture, in their order, separated by spaces, "
        "and with nothing else."
    ),
    max_tokens=12,
    max_chars=240,
)


def picture_to_show(data: bytes, max_pixels: int) -> "Image.Image":
    """Decodes an image for a model that sees it: RGB, upright, at most ``max_pixels`` pixels.

    Scaled here and not by each model's processor, so that the length of a prompt is bounded for
    every model. Takes the first frame of an animation. Transparent parts are white.

    Raises:
        PictureError: see :func:`models.retriever.pictures.decode_picture`.
    """
    from PIL import Image

    from models.retriever.pictures import decode_picture

    picture = decode_picture(data)
    scale = math.sqrt(max_pixels / (picture.width * picture.height))
    if scale >= 1:
        return picture
    width, height = (max(1, int(side * scale)) for side in picture.size)
    # The short side of a narrow strip cannot be less than one pixel: the long side shrinks more.
    longest = max_pixels // min(width, height)
    size = min(width, longest), min(height, longest)
    return picture.resize(size, Image.Resampling.LANCZOS)


def messages(shown: dict[str, Any], query: str) -> list[dict[str, Any]]:
    """The chat that asks for the caption of the wanted image, or without a query of this one.

    Args:
        shown: the image as a content part of a message, for example from :func:`image_url`.
    """
    text = seen_task(query).prompt(query)
    return [{"role": "user", "content": [shown, {"type": "text", "text": text}]}]


def rating_messages(shown: Sequence[dict[str, Any]], query: str) -> list[dict[str, Any]]:
    """The chat that asks for a rating of each image.

    Args:
        shown: the images as content parts of a message.
    """
    return [{"role": "user", "content": [*shown, {"type": "text", "text": RATED.prompt(query)}]}]


def image_url(picture: "Image.Image") -> dict[str, Any]:
    """The image as a content part for a server. PNG keeps the decoded pixels as they are."""
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    encoded = base64.b64encode(out.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
