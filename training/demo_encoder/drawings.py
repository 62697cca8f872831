"""The drawings and English captions that the demo encoder is trained on.

Four freely licensed sets of the same emoji: OpenMoji (CC BY-SA 4.0) and, unpacked by `npm pack`,
Noto (``emoji-datasource-google``), Twemoji (``emoji-datasource-twitter``, CC BY 4.0) and Fluent,
flat and modern (``fluentui-emoji``, MIT). English keywords come from ``emojilib`` (MIT).
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from models.demo.gallery import DemoPicture
from models.retriever.pictures import read_picture

_TEMPLATES = (
    "{}", "{}", "{}", "{}",  # the bare name is the most common query
    "a {}", "the {}", "a drawing of a {}", "a picture of a {}", "an emoji of a {}",
    "{} emoji", "{} icon", "an icon showing a {}", "a small colourful drawing of {}",
)  # fmt: skip
_LONG_TEMPLATES = (
    "a drawing that shows a {}, in bright colours on a white background, which some people call {}",
    "this is a picture of a {}. it is also known as {}. the picture shows {}",
    "a simple and colourful icon of a {} with a clean outline, used in messages to say {}",
)


def load_styles(
    pictures: list[DemoPicture], openmoji: list[Image.Image], npm_dir: Path, size: int
) -> tuple[Tensor, Tensor]:
    """Stacks all drawings of all pictures.

    Returns:
        ``(drawings, owner)``: uint8 ``[n, 3, size, size]``, and int64 ``[n]``, the position of the
        picture. OpenMoji's drawings come first, one for each picture, in order.
    """
    images = list(openmoji)
    owner = list(range(len(pictures)))
    for position, picture in enumerate(pictures):
        for path in _other_styles(picture, npm_dir):
            images.append(read_picture(path, svg_pixels=size * 2))
            owner.append(position)
    stacked = np.stack(
        [np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)) for image in images]
    )
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous(), torch.tensor(owner)


def _other_styles(picture: DemoPicture, npm_dir: Path) -> Iterator[Path]:
    codes = "-".join(f"{ord(c):04x}" for c in picture.emoji)
    english = picture.names["en"].lower().replace("\u2019", "").replace(":", "").replace(" ", "-")
    candidates = [
        npm_dir / f"emoji-datasource-google/package/img/google/64/{codes}.png",
        npm_dir / f"emoji-datasource-twitter/package/img/twitter/64/{codes}.png",
        npm_dir / f"fluentui-emoji/package/icons/flat/{english}.svg",
        npm_dir / f"fluentui-emoji/package/icons/modern/{english}.svg",
    ]
    return (path for path in candidates if path.is_file())


def load_keywords(pictures: list[DemoPicture], npm_dir: Path) -> list[dict[str, float]]:
    """emojilib's English keywords of every picture, each with a weight.

    "animal" is a keyword of hundreds of pictures and says little about each: the weight is one over
    the number of pictures that have the keyword. Keywords that are not plain words are left out.
    """
    path = npm_dir / "emojilib/package/dist/emoji-en-US.json"
    listed: dict[str, list[str]] = json.loads(path.read_text())
    keywords = []
    for picture in pictures:
        words = listed.get(picture.emoji) or listed.get(picture.emoji.rstrip("\ufe0f"), [])
        plain = {word.replace("_", " ").lower() for word in words}
        keywords.append({w for w in plain if w.isascii() and w.replace(" ", "").isalpha()})
    counts = Counter(word for words in keywords for word in words)
    return [{word: 1 / counts[word] for word in sorted(words)} for words in keywords]


def keyword_caption(picture: DemoPicture, keywords: dict[str, float], rng: random.Random) -> str:
    """A caption for the second stage: half the time the name, otherwise one or two keywords."""
    if not keywords or rng.random() < 0.5:
        return caption(picture, rng, long=False)
    words = rng.choices(list(keywords), list(keywords.values()), k=rng.choice((1, 1, 1, 2)))
    if rng.random() < 0.15:
        words.append(picture.names["en"])
    return rng.choice(_TEMPLATES).format(" ".join(dict.fromkeys(words)))


def caption(picture: DemoPicture, rng: random.Random, long: bool) -> str:
    """One English caption: a name or an alias in a template, sometimes with a word left out."""
    names = [picture.names["en"], *picture.aliases]

    def pick() -> str:
        name = names[0] if rng.random() < 0.7 else rng.choice(names)
        words = name.split()
        if len(words) > 2 and rng.random() < 0.1:
            words.pop(rng.randrange(len(words)))
        return " ".join(words)

    template = rng.choice(_LONG_TEMPLATES if long else _TEMPLATES)
    return template.format(*(pick() for _ in range(template.count("{}"))))
