"""What a query says is not wanted, in 14 languages."""

from collections.abc import Sequence

import numpy as np
import pytest

from models.demo.gallery import LANGUAGES
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.types import Scored
from models.rewriter.protocol import Prompt
from models.rewriter.rewrites import Rewrite
from models.search.gate import Gate
from models.search.many_plans import make_plans
from models.search.mixture import Mixture
from models.search.negation import demoted, read_negation
from models.search.plan import Answer, Plan, PlanOptions, Setting, plan_search
from models.search.query import Query, as_typed
from models.search.without import plan_query
from training.data.demo.negations import negation_rows
from training.evaluation.gallery import Gallery


@pytest.mark.parametrize(("query", "thing", "rest"), [
    ("no dog", "dog", None), ("No dogs!", "dogs", None), ("not a dog", "dog", None),
    ("house without a garden", "garden", "house"), ("a house, no garden", "garden", "a house"),
    ("kein Hund", "Hund", None), ("Haus ohne Garten", "Garten", "Haus"),
    ("pas d'arbre", "arbre", None), ("sin gato", "gato", None), ("köpek yok", "köpek", None),
    ("нет собаки", "собаки", None), ("没有狗", "狗", None), ("没有胡子的男人", "胡子", "男人"),
    ("庭のない家", "庭", "家"), ("수염 없는 남자", "수염", "남자"), ("고양이 없이", "고양이", None),
    ("رجل بدون لحية", "لحية", "رجل"),
])  # fmt: skip
def test_negations(query: str, thing: str, rest: str | None) -> None:
    assert read_negation(query) == (thing, rest)


@pytest.mark.parametrize(
    "query",
    ["dog", "notebook", "passport", "knot", "sansevieria", "pastel", "no", "ohne", "无线",
     "あぶない",
     "a dog that has no collar and runs along a beach where nobody else is to be seen", "not musik",
     "telefone no gancho"],
)  # fmt: skip
def test_what_is_none(query: str) -> None:
    assert read_negation(query) is None


def test_every_query_of_the_slice_is_read() -> None:
    rows = negation_rows()
    assert len(rows) == 112
    assert {row.language for row in rows} == set(LANGUAGES)
    assert all(row.targets for row in rows)
    assert not [row.query for row in rows if read_negation(row.query) is None]


def test_what_resembles_the_rest_more_stays() -> None:
    everywhere = np.arange(4)
    thing = Scored(everywhere, np.array([0.5, 0.45, 0.3, 0.42], np.float32))
    rest = Scored(everywhere[1:], np.array([0.2, 0.1, 0.6], np.float32))
    assert demoted([thing], None).tolist() == [0, 1, 3]
    assert demoted([thing], rest).tolist() == [0, 1]
    assert demoted([Scored(everywhere[:0], thing.cosines[:0])], None).tolist() == []


class Plans:
    """Plans for many queries on the demo's gallery, with rewrites from a table."""

    def __init__(self, encoder: ClipEncoder, index: ImageIndex) -> None:
        self.gallery = Gallery(encoder, index, "cpu")
        self.names = [record["name"] for record in index.metadata]

    def plans(self, queries: Sequence[str], written: dict[str, str], how: object) -> list[Plan]:
        setting = Setting(
            self.gallery.encoder, self.gallery.index.manifest.known_scores,
            lambda _: Gate(plain=0.03, other=0.025), lambda _: Mixture(tau=0.05),
        )  # fmt: skip
        options = PlanOptions("auto", "auto")
        asked = [Query(text) for text in queries]
        steps = [
            how(query, as_typed(query, self.gallery.encoder), options, setting)  # type: ignore[operator]
            for query in asked
        ]
        return make_plans(
            steps,
            self.gallery.best_scores,
            lambda prompts: {n: [_answer(written, p) for p in own] for n, own in prompts.items()},
        )

    def first(self, plan: Plan, k: int) -> list[str]:
        """Names of the first pictures, by a plan's first search."""
        (found,) = self.gallery.index.score(self.gallery.vectors(plan.searches[:1]))
        found = found.lowered(np.array(self.gallery.demoted(plan), np.int64))
        return [self.names[hit.position] for hit in found.best(k)]


class _Answered:
    adapter = None
    reason = "nothing"

    def __init__(self, text: str | None) -> None:
        self.rewrites = [Rewrite(text, 0.9)] if text else []


def _answer(written: dict[str, str], prompt: Prompt) -> Answer:
    return _Answered(written.get(prompt.query))


@pytest.fixture(scope="module")
def plans(encoder: ClipEncoder, demo_index: ImageIndex) -> Plans:
    return Plans(encoder, demo_index)


def test_the_unwanted_thing_is_not_first(plans: Plans) -> None:
    written = {
        "kein Hund": "dog", "Hund": "dog", "нет собаки": "no dog", "собаки": "dogs",
        "Haus ohne Garten": "house with garden", "Haus": "house", "Garten": "garden",
    }  # fmt: skip
    queries = ["no dog", "kein Hund", "нет собаки", "Haus ohne Garten"]
    before = plans.plans(queries, written, plan_search)
    after = plans.plans(queries, written, plan_query)
    unwanted = ["dog", "dog", "dog", "garden"]
    for plan, thing in zip(before, unwanted, strict=True):
        assert thing in plans.first(plan, 1)[0]
    for plan, thing in zip(after, unwanted, strict=True):
        assert not any(thing in name for name in plans.first(plan, 5)), plan
        assert "come last" in plan.rewriting.reason
    assert plans.first(after[3], 1) == ["house"]
    assert after[3].texts == {"house": 0.9}
    (failed,) = plans.plans(["kein Hund"], {"kein Hund": "dog"}, plan_query)
    assert failed.unwanted is None, "what is not wanted is not known in English"
    (failed,) = plans.plans(["kein Hund"], {}, plan_query)
    assert failed.unwanted is None, "nothing is known in English"


def test_names_are_searched_as_before(plans: Plans, demo_index: ImageIndex) -> None:
    """In every language, where the model translates them as Unicode does."""
    names = {
        name: record["name"]
        for record in demo_index.metadata
        for name in {**record["names"], "en": record["name"]}.values()
        if read_negation(name)
    }
    queries = sorted(names)
    assert len(queries) > 60
    before = plans.plans(queries, names, plan_search)
    after = plans.plans(queries, names, plan_query)
    changed = [q for q, a, b in zip(queries, before, after, strict=True) if a != b]
    assert changed == []


def test_what_a_picture_is_called_is_found_in_its_metadata(demo_index: ImageIndex) -> None:
    assert demo_index.items.has_text("No Entry")
    assert demo_index.items.has_text("gesicht ohne mund")
    assert not demo_index.items.has_text("kein Hund")
