"""The report: an honest summary, escaped text, no external resources, and odd results."""

import base64
import io
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.evaluation.calibration import calibration
from training.evaluation.report.page import p_value, sentence, short, signed, write_report
from training.evaluation.report.tables import as_text
from training.evaluation.results import (
    ALL,
    Comparison,
    Cost,
    Estimate,
    Loss,
    Query,
    Results,
    System,
)

NASTY = "<script>alert('x')</script><img src=https://example.org/x.png onerror=alert(1)>"
ARABIC = "قطة صغيرة على كرسي"
EMOJI = "👩‍🚀 & 🚀"
LONG = "sehr " * 400
QUERIES = [(NASTY, "en"), (ARABIC, "ar"), (EMOJI, "ar"), (LONG, "de")]
SLICES = {ALL: 4, "language en": 1, "language ar": 2, "language de": 1}


def around(value: float, by: float = 0.1) -> Estimate:
    return Estimate(value=value, low=value - by, high=value + by)


def compared(difference: float, p_holm: float, against: str, name: str = ALL) -> Comparison:
    return Comparison(
        against=against, slice=name, queries=SLICES[name], difference=around(difference),
        p=p_holm / 4, p_holm=p_holm, wins=1, ties=1, losses=2,
    )  # fmt: skip


def system(
    name: str, value: float, ranks: list[int], *comparisons: Comparison, seconds: float = 0.0
) -> System:
    return System(
        name=name,
        about=f"what {name} does",
        texts=[(text,) for text, _ in QUERIES],
        ranks=ranks,
        target_similarity=[0.2, 0.3, 0.4, 0.5],
        random_similarity=[0.1, 0.1, 0.2, 0.2],
        metrics={name: {"R@10": around(value), "MRR@10": around(value / 2)} for name in SLICES},
        median_rank=dict.fromkeys(SLICES, 20.5),
        comparisons=list(comparisons),
        cost=Cost(
            prompts=1.5, prompt_tokens=412.3, written_tokens=4, llm_seconds=seconds, searches=1
        ),
    )


def results(*systems: System, worst: list[Loss] | None = None) -> Results:
    return Results(
        made="2025-11-02T10:15:00Z", title="demo, split test", about="A <b>test</b>.",
        main_metric="R@10", corpus="index-1", corpus_size=1625, encoder="ViT", llm="gemma",
        adapter=None, seed=7, versions={"torch": "2.13.0"}, slices=SLICES, systems=list(systems),
        worst=worst or [], notes=["No <i>note</i>."],
        queries=[
            Query(
                query=text, targets=("1",), language=language, task="multilingual",
                words=len(text.split()), gate="rewritten", slices=(f"language {language}",),
            )
            for text, language in QUERIES
        ],
    )  # fmt: skip


def calibrated() -> Results:
    """The scores of tuned promise too much; direct has none."""
    scores, ranks = [0.95, 0.85, 0.3, 0.05], [1, 7, 2, 2]
    tuned = system("tuned", 0.5, ranks).model_copy(
        update={"first_probability": scores, "calibration": calibration(scores, ranks, scores, 0.5)}
    )
    return results(system("direct", 0.6, [1, 2, 3, 40]), tuned)


def losing() -> Results:
    """The tuned system loses to direct significantly, and to frozen perhaps by chance."""
    return results(
        system("direct", 0.6, [1, 2, 3, 40]),
        system("frozen", 0.5, [1, 5, 3, 60], compared(-0.1, 0.3, "direct"), seconds=0.02),
        system(
            "tuned", 0.4, [900, 20, 3, 10],
            compared(-0.2, 0.004, "direct"), compared(-0.1, 0.4, "frozen"),
            compared(0.3, 0.01, "direct", "language ar"),
            compared(-0.3, 0.02, "direct", "language de"), seconds=0.01,
        ),
        worst=[
            Loss(system="tuned", query=text, rewrite=rewrite, direct_rank=1, rank=900)
            for (text, _), rewrite in zip(QUERIES, (NASTY, "cat", "", "so"), strict=True)
        ],
    )  # fmt: skip


class Outline(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "made" / "when missing"
    write_report(losing(), folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "report.html").read_text()


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    tags = Outline(page).tags
    names = [tag for tag, _ in tags]
    assert not {"script", "link", "iframe", "object", "base"} & set(names)
    for _, attributes in tags:
        for name in ("src", "srcset", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import", page[: page.index("</style>")])


def test_text_of_users_stays_text(page: str) -> None:
    outline = Outline(page)
    words = "".join(outline.words)
    for text in (NASTY, ARABIC, EMOJI, LONG, "A <b>test</b>.", "No <i>note</i>."):
        assert text in words
    assert not {"b", "i"} & {tag for tag, _ in outline.tags}
    cells = [attributes for tag, attributes in outline.tags if attributes.get("class") == "text"]
    assert len(cells) == 8
    assert all(cell["dir"] == "auto" for cell in cells)


def test_the_page_is_built_for_every_reader(page: str) -> None:
    outline = Outline(page)
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h\d", tag)]
    assert [levels[0], levels.count(1)] == [1, 1]
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    names = [tag for tag, _ in outline.tags]
    assert names.count("caption") == names.count("table") == 6
    assert ("html", {"lang": "en"}) in outline.tags
    images = [attributes for tag, attributes in outline.tags if tag == "img"]
    assert len(images) == 4
    assert all(len(image["alt"] or "") > 40 for image in images)
    assert any("better: 1, same: 1, worse: 2" in (image["alt"] or "") for image in images)
    assert "significantly better than direct" in page
    assert "significantly worse than direct" in page


def test_a_loss_is_called_one() -> None:
    said = sentence(losing()).replace("\u00a0", " ")
    assert said == (
        "direct has the highest R@10 over all 4 queries, 0.600 [0.500, 0.700]: no rewriting finds "
        "more than the query as typed; tuned is 0.200 below direct (95 % interval −0.300 to "
        "−0.100) and 0.100 below frozen (−0.200 to 0.000; may be chance, Holm p = 0.400)."
    )


def test_a_gain_that_may_be_chance_is_called_so() -> None:
    won = results(
        system("direct", 0.5, [1] * 4),
        system("tuned", 0.51, [1] * 4, compared(0.01, 0.9, "direct")),
    )
    said = sentence(won)
    assert said.startswith("tuned has the highest R@10 over all 4 queries, 0.510 [")
    assert "0.010 above direct" in said
    assert "may be chance, Holm p = 0.900" in said
    level = results(
        system("direct", 0.5, [1] * 4), system("tuned", 0.5, [1] * 4, compared(0.0, 1, "direct"))
    )
    assert sentence(level).startswith("direct and tuned share the highest R@10")
    assert "tuned is level with direct" in sentence(level)


def test_the_numbers_come_along(folder: Path) -> None:
    assert Results.model_validate_json((folder / "results.json").read_bytes()) == losing()
    assert {path.name for path in folder.iterdir()} == {
        "report.html", "results.json", "languages.png", "cost.png", "ranks.png", "similarity.png",
    }  # fmt: skip


def test_plots_are_pictures_for_light_and_for_dark(folder: Path, page: str) -> None:
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert image.width == 1024
            assert 300 < image.height < 3000
            assert len(image.getcolors(maxcolors=1 << 24) or []) > 20
        assert base64.b64encode(path.read_bytes()).decode() in page
    encoded = re.findall(r'srcset="data:image/png;base64,([^"]+)"', page)
    for one in encoded:
        corner = np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB"))[0, 0]
        assert corner.sum() < 150
    assert len(encoded) == 4


def test_scores_are_compared_with_what_is_right(tmp_path: Path) -> None:
    without = [0.2, 0.6, 0.92, 0.31, 0.1, 0.39]
    found = calibration([0.95, 0.95, 0.92, 0.31, 1.0, 0.39], [1, 1, 3, 2, 1, 1], without, 0.5)
    warned = found.nothing_found
    assert warned.recall == pytest.approx(4 / 6)
    assert warned.precision == pytest.approx(5 / 6)
    assert warned.right_if_confident == pytest.approx(3 / 6)
    assert warned.kept == pytest.approx(3 / 4)
    # Two bins: of four queries, three are right at .955; of two, one is right at .35.
    assert [(one.queries, one.right) for one in found.bins] == [(2, 0.5), (4, 0.75)]
    assert found.error == pytest.approx((4 * 0.205 + 2 * 0.15) / 6)
    assert (found.right, found.confident) == pytest.approx((4 / 6, 4 / 6))
    assert found.right_if_confident == 0.75
    assert calibration([0.1], [1], [0.1], 0.5).right_if_confident is None
    assert calibration([0.0, 1.0], [2, 1], [0.0, 0.0], 0.5).error == 0

    write_report(calibrated(), tmp_path)
    with Image.open(tmp_path / "reliability.png") as image:
        assert len(image.getcolors(maxcolors=1 << 24) or []) > 20
    page = (tmp_path / "report.html").read_text()
    assert "Expected calibration error: tuned 0.312." in page
    assert "What the score is worth" in page
    assert "| tuned | 0.312 | 0.537 | 0.250 | 0.500 | 0.500 |" in as_text(calibrated())
    read = Results.model_validate_json((tmp_path / "results.json").read_bytes())
    assert read == calibrated()
    assert '"calibration"' not in losing().model_dump_json()


def test_one_system_alone(tmp_path: Path) -> None:
    write_report(losing(), tmp_path)
    alone = results(system("direct", 0.6, [1, 1, 1, 1]))
    write_report(alone, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "no other system was measured" in sentence(alone)
    assert "No system was compared with another." in page
    assert not (tmp_path / "ranks.png").exists()


def test_no_similarity_no_language_no_direct_one_query(tmp_path: Path) -> None:
    bare = system("other encoder", 1, [3]).model_copy(
        update={
            "target_similarity": None,
            "random_similarity": None,
            "metrics": {ALL: {"R@10": around(1, 0)}},
            "median_rank": {},
        }
    )
    second = bare.model_copy(update={"name": "second", "metrics": {}})
    odd = results(bare, second).model_copy(update={"slices": {ALL: 1}})
    write_report(odd, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "results.json", "cost.png"}
    assert "the one query" in sentence(odd)


def test_ranks_that_are_all_alike_and_no_losses(tmp_path: Path) -> None:
    write_report(
        results(
            system("direct", 1, [1] * 4),
            system("best", 1, [1] * 4, compared(0.0, 1, "direct")),
        ),
        tmp_path,
    )
    page = (tmp_path / "report.html").read_text()
    assert "better: 0, same: 4, worse: 0" in page
    assert "no query is listed" in page


def test_numbers_as_they_are_read() -> None:
    assert [signed(value) for value in (0.25, -0.25, -0.0001)] == ["+0.250", "−0.250", "0.000"]
    assert [short(value) for value in (0, 0.01234, 412.34)] == ["0", "0.0123", "412"]
    assert [p_value(value) for value in (0.0004, 0.04, 1)] == ["< 0.001", "0.040", "1.000"]
