"""A query about a picture, put to a language model that sees it: prompt, picture and messages.

The answer is read by :func:`models.rewriter.tasks.parse_rewrite`, as every other.
"""

import base64
import hashlib
import io
import math
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `grape search --url` reads a constant here and works without Pillow
    from PIL import Image

# Marks such as <|image_pad|> or [IMG] stand for a picture in a prompt; a query must not hold one.
_MARKS = str.maketrans(dict.fromkeys('<>[]|"', " "))

# A vision model of the Qwen family reads 28 x 28 pixels as one token, so this is 768 tokens: its
# makers advise 256 to 1,280, and a context of 2,048 has room for the instruction and the answer.
IMAGE_PIXELS = 28 * 28 * 768


@dataclass(frozen=True)
class SeenTask:
    """What a model that sees the picture is asked.

    It is asked as a chat: where a picture stands in a prompt only the model's own template knows.
    """

    instruction: str  # with {query} where the person's words go
    max_tokens: int  # of the caption
    max_chars: int  # of the query; the rest of a longer one is not shown to the model

    def prompt(self, query: str) -> str:
        """What is said beside the picture; the query cannot leave its quotation."""
        composed = unicodedata.normalize("NFC", query)  # one query, however its accents are typed
        shown = " ".join(composed.translate(_MARKS).split())[: self.max_chars]
        return self.instruction.format(query=shown)

    @property
    def hash(self) -> str:
        """Changes with the prompt and its limits."""
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


def picture_to_show(data: bytes, max_pixels: int) -> "Image.Image":
    """Decodes a picture for a model that sees it: RGB, upright, at most ``max_pixels`` pixels.

    Shrunk here and not by each model's own processor, so that a prompt's length is bounded for
    every model. Of an animation it is the first frame; transparent parts are white.

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
    # Of a stripe whose short side cannot go under one pixel the long side gives way.
    longest = max_pixels // min(width, height)
    size = min(width, longest), min(height, longest)
    return picture.resize(size, Image.Resampling.LANCZOS)


def messages(shown: dict[str, Any], query: str) -> list[dict[str, Any]]:
    """The chat that asks for the wanted picture's caption.

    Args:
        shown: the picture as a part of a message, such as :func:`image_url` makes it.
    """
    return [{"role": "user", "content": [shown, {"type": "text", "text": SEEN.prompt(query)}]}]


def image_url(picture: "Image.Image") -> dict[str, Any]:
    """The picture inside the message, for a server: PNG, so that it sees what was decoded here."""
    out = io.BytesIO()
    picture.save(out, "PNG", compress_level=1)
    encoded = base64.b64encode(out.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded}"}}
