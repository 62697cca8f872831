"""Listwise reranking with a sliding window: what is asked, read and kept."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.demo.gallery import demo_pictures
from models.rewriter.protocol import (
    Completions,
    OnText,
    Prompt,
    RewriteFailed,
    RewriterDown,
    Sampling,
)
from models.rewriter.vllm_engine import VLLMOptions
from models.search.mixture import Mixture
from models.search.rerank import Comparison, reranked, scores_of
from tests.support.app import FakeRewriter
from tests.support.completions import completions
from training.evaluation.listwise import (
    LISTWISE,
    STEP,
    WINDOW,
    order_in,
    ranked,
    windows,
    write_orders,
)
from training.evaluation.rerankers import Judge
from training.stages.sampling import Engine


class Orders(FakeRewriter):
    """Writes an order of what it is shown."""

    def __init__(self, order: Callable[[list[str]], str]) -> None:
        super().__init__()
        self.order = order
        self.shown: list[list[str]] = []

    async def complete(
        self,
        prompt: Prompt,
        sampling: Sampling,
        on_text: OnText | None = None,
        within_s: float | None = None,
    ) -> Completions:
        assert (prompt.task, sampling) == (LISTWISE, Sampling())
        if self.error:
            raise self.error
        _, *texts = prompt.query.split(" / ")
        assert [text.split()[0] for text in texts] == [str(n + 1) for n in range(len(texts))]
        self.shown.append([text.split(maxsplit=1)[1] for text in texts])
        return completions(f" {self.order(self.shown[-1])}\nand more")


def by_number(texts: list[str]) -> str:
    """The order of the numbers in the texts, the highest first."""
    found = sorted(range(len(texts)), key=lambda place: -int(re.sub(r"\D", "", texts[place])))
    return " > ".join(str(place + 1) for place in found)


def asked_for(count: int, query: str = "Hund") -> Comparison:
    return Comparison("listwise", "likelihood", query, [f"dog {n}" for n in range(count)])


@pytest.mark.parametrize(
    ("answer", "order"),
    [
        (" 3 > 1 > 2 > 4", [2, 0, 1, 3]),
        (" [3] > [1] > [2] > [4]", [2, 0, 1, 3]),
        (" 4", [3, 0, 1, 2]),  # what is missing follows
        (" 2 > 2 > 3 > 2", [1, 2, 0, 3]),  # repeated
        (" 9 > 0 > 3 > 1234", [2, 0, 1, 3]),  # no candidates
        (" 2 > 1\nWords: 4 > 3", [1, 0, 2, 3]),  # the next line is no answer
        ("", [0, 1, 2, 3]),
        (" dog > cat", [0, 1, 2, 3]),
    ],
)
def test_an_order_is_read_whatever_is_written(answer: str, order: list[int]) -> None:
    assert order_in(answer, 4) == order


@given(st.text("0123456789 >[],\n", max_size=80), st.integers(0, 12))
def test_every_candidate_is_there_once(answer: str, count: int) -> None:
    assert sorted(order_in(answer, count)) == list(range(count))


def test_windows_go_from_the_back_to_the_front_and_leave_none_out() -> None:
    assert windows(20) == [10, 5, 0]
    assert windows(17) == [7, 2, 0]
    assert windows(WINDOW) == windows(2) == [0]
    for count in range(2, 101):
        first = windows(count)
        assert {p for start in first for p in range(start, min(start + WINDOW, count))} == {
            *range(count)
        }
        assert all(0 < one - two <= STEP for one, two in pairwise(first))


async def test_the_best_rises_from_the_last_place_to_the_first(tmp_path: Path) -> None:
    asked = asked_for(20)
    rewriter = Orders(by_number)
    ((answers, seconds),) = await write_orders(lambda: rewriter, [asked], tmp_path / "orders")
    assert len(answers) == 3
    assert seconds >= 0
    # Once to warm up.
    assert rewriter.shown[3] == [f"dog {n}" for n in range(10, 20)]
    assert rewriter.shown[4] == [f"dog {n}" for n in (*range(5, 10), *range(19, 14, -1))]
    found = ranked(asked, answers)
    scores = scores_of(asked.texts, asked, found.scores)
    order = [place for place, _ in reranked([0.0] * 20, scores, 1.0)]
    # A window carries five candidates to the front; the others keep the order of the search's.
    assert order[:10] == [19, 18, 17, 16, 15, 4, 3, 2, 1, 0]
    assert sorted(order) == list(range(20))
    assert [prompt.splitlines()[-2].split(" / ")[1:][0] for prompt in found.prompts] == [
        "1 dog 10", "1 dog 5", "1 dog 0",
    ]  # fmt: skip
    assert all(prompt.endswith("\nOrder:") for prompt in found.prompts)


async def test_orders_are_kept_and_asked_once(tmp_path: Path) -> None:
    path = tmp_path / "work" / "orders.jsonl"
    asked = [asked_for(12, query) for query in ("Hund", "犬", "Hund")]
    found = await write_orders(lambda: Orders(by_number), asked, path)
    with open(path, "a") as file:
        file.write('\n["torn')
    again = await write_orders(lambda: pytest.fail("the model was started"), asked, path)
    assert again == found
    rewriter = Orders(by_number)
    more = await write_orders(lambda: rewriter, [*asked, asked_for(11)], path)
    assert more[:3] == found
    assert len(rewriter.shown) == 2 * len(windows(11))  # to warm up, and to be kept
    assert await write_orders(lambda: pytest.fail("started"), [asked_for(11)], path) == more[3:]


async def test_a_window_without_an_answer_keeps_its_order(tmp_path: Path) -> None:
    rewriter = Orders(by_number)
    rewriter.error = RewriteFailed("too long")
    asked = asked_for(20)
    ((answers, _),) = await write_orders(lambda: rewriter, [asked], tmp_path / "orders")
    assert answers == [""] * 3
    assert ranked(asked, answers).scores == [-float(n) for n in range(20)]
    rewriter.error = RewriterDown("dead")
    with pytest.raises(RewriterDown):
        await write_orders(lambda: rewriter, [asked_for(3)], tmp_path / "orders")


def test_the_engine_is_asked_and_what_it_costs_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewriter = Orders(by_number)
    started: list[VLLMOptions] = []

    def start(options: VLLMOptions) -> Orders:
        started.append(options)
        return rewriter

    monkeypatch.setattr("training.stages.sampling.VLLMRewriter", start)
    asked = [asked_for(20), asked_for(4)]
    with Engine() as engine:
        judge = Judge(engine, "gemma", "frozen-1", lambda texts: sum(map(len, texts)), tmp_path)
        how = judge.by_order()
        long, short = how.ask(asked)
        # The same engine answers the other way of comparing.
        rewriter.likelihoods = {"dog 1": -1.0}
        likely = judge.by_score(Mixture(), "likelihood")
        found = likely.ask([asked_for(4)._replace(by="likelihood")])
    assert [options.model for options in started] == ["gemma"]
    assert (how.weight, likely.weight) == (None, Mixture().rerank["likelihood"])
    assert short.values == [-3.0, -2.0, -1.0, 0.0]
    assert (long.paid.prompts, short.paid.prompts) == (3, 1)
    assert short.paid.read == len(LISTWISE.prompt("Hund / 1 dog 0 / 2 dog 1 / 3 dog 2 / 4 dog 3"))
    assert short.paid.written == len(" 4 > 3 > 2 > 1\nand more")
    assert found[0].values == [-9.0, -1.0, -9.0, -9.0]
    assert (found[0].paid.prompts, found[0].paid.written) == (4, 0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "orders-frozen-1.jsonl", "scores-frozen-1.jsonl",
    }  # fmt: skip


def test_the_examples_are_windows_and_name_no_picture_of_the_gallery() -> None:
    names = {name.casefold() for p in demo_pictures() for name in (*p.names.values(), *p.aliases)}
    for shown, order in LISTWISE.examples:
        query, *texts = shown.split(" / ")
        assert [text.split()[0] for text in texts] == [str(n + 1) for n in range(WINDOW)]
        assert " > ".join(str(n + 1) for n in order_in(order, WINDOW)) == order
        assert not names & {query, *(text.split(maxsplit=1)[1].casefold() for text in texts)}
