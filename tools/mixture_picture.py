"""Draws docs/mixture-idea.png from a running server: `python -m tools.mixture_picture [URL]`."""

import io
import sys
from pathlib import Path
from typing import Any

import httpx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

OUT = Path(__file__).parent.parent / "docs" / "mixture-idea.png"
QUERY = "fernseher"  # German: television; the greedy rewrite is "man running"
REWRITES = 4
PICTURES = 3  # of each rewrite
HEADS = {
    0: f"what “{QUERY}” may mean: w(r)",
    1: "what each rewrite finds: softmax(cosine / τ)",
    -2: "the mixture: p",
}
_BELOW: dict[str, Any] = {"ha": "center", "va": "top"}


def main(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as server:
        mixed = _search(server, QUERY, "always", REWRITES)
        weights = _weights(mixed["rewrite"])
        found = {text: _search(server, text, "never", 1)["hits"][:PICTURES] for text in weights}
        figure = Figure(figsize=(9, 1.15 * len(weights) + 0.4), layout="constrained")
        grid = figure.subplots(
            len(weights), PICTURES + 4, width_ratios=[2.6, *[1] * PICTURES, 0.5, 1, 1.1]
        )
        for axes in grid.flat:
            axes.axis("off")
        for row, (text, weight) in zip(grid, weights.items(), strict=True):
            _rewrite(row[0], text, weight)
            for axes, hit in zip(row[1:], found[text], strict=False):
                _picture(axes, server, hit)
        for row, hit in zip(grid, mixed["hits"], strict=False):
            _picture(row[-2], server, hit)
            row[-1].text(0, 0.5, hit["found_by"][0], va="center")
        for column, head in HEADS.items():
            title = grid[0][column].set_title(head, loc="left", fontsize=10)
            title.set_in_layout(False)  # it may be wider than its column
        figure.savefig(OUT, dpi=130)


def _search(server: httpx.Client, query: str, rewrite: str, n: int) -> dict[str, Any]:
    body = {"query": query, "rewrite": rewrite, "n": n, "k": 10}
    answer = server.post("/search", json=body).raise_for_status()
    found: dict[str, Any] = answer.json()
    return found


def _weights(rewrite: dict[str, Any]) -> dict[str, float]:
    """Each rewrite's share of what was found."""
    known = {
        text: probability
        for text, probability in zip(rewrite["texts"], rewrite["probabilities"], strict=True)
        if probability is not None
    }
    total = sum(known.values())
    return {text: probability / total for text, probability in known.items()}


def _rewrite(axes: Axes, text: str, weight: float) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.barh(0.35, weight, height=0.25, color="#4a6fa5")
    axes.text(0, 0.62, f"{text}   {weight:.2f}")


def _picture(axes: Axes, server: httpx.Client, hit: dict[str, Any]) -> None:
    picture = server.get(hit["url"]).raise_for_status().content
    axes.imshow(Image.open(io.BytesIO(picture)).convert("RGBA"))
    axes.text(0.5, -0.02, f"{hit['score']:.2f}", fontsize=8, transform=axes.transAxes, **_BELOW)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
