"""One system on all queries: rewritten, searched, counted, and kept for the next run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from models.common.files import write_file
from models.common.paths import merged_dir
from models.rewriter.adapter import Adapter
from models.rewriter.chat import ChatTemplate
from models.rewriter.merge import merge_adapter
from models.rewriter.protocol import AUTO, Prompt, Sampling
from models.rewriter.rewrites import Rewrite, usable_rewrites
from models.rewriter.tasks import LIKELIHOOD, RERANK, RERANK_TASKS, TASKS
from models.search.gate import Decision, decide
from models.search.many_plans import make_plans
from models.search.plan import Answer, Plan, PlanOptions, Rewriting, Setting
from models.search.query import Query, as_typed
from models.search.searches import Search
from models.search.without import plan_query
from training.data.rows import Row
from training.evaluation.costs import Paid, per_query
from training.evaluation.cross_encoder import PairModel
from training.evaluation.gallery import Gallery
from training.evaluation.measured import Fitted, Measured, shown
from training.evaluation.rerankers import Judge, by_pairs, depends_on
from training.evaluation.reranking import Reranking, rerank_found
from training.evaluation.retrieval import Question, medoid, retrieve
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import Model, SystemSpec, tasks_of
from training.stages.language_model import LanguageModel, Tokenizer
from training.stages.sampling import Engine, Samples, SamplingRequest

_FORMAT = 13  # of the stored results; others are measured again


class _Written(NamedTuple):
    """The model's usable rewrites of one prompt, as the search plan takes them."""

    rewrites: list[Rewrite]
    reason: str = "the rewriter wrote nothing usable"
    adapter: str | None = None


@dataclass(frozen=True)
class Bench:
    """Everything that systems are measured with."""

    settings: EvalSettings
    rows: Sequence[Row]
    base: LanguageModel | None
    adapter: Adapter | None
    fitted: Fitted
    engine: Engine
    pair_model: PairModel | None = None  # None if no system needs a cross-encoder
    reranker: Adapter | None = None  # that compares; None: the system's own model does

    def measured(self, spec: SystemSpec, gallery: Gallery) -> Measured:
        """Measures a system, or reads the result of an earlier run from the work folder."""
        path = self.settings.work / f"{self._key(spec, gallery)}.json"
        try:
            return Measured.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            found = self._measure(spec, gallery)
        self.settings.work.mkdir(parents=True, exist_ok=True)
        write_file(path, found.model_dump_json().encode())
        return found

    def gated(self, gallery: Gallery) -> list[bool]:
        """Whether `rewrite: auto` rewrites each query."""
        decided = zip(self.rows, self.decisions(gallery), strict=True)
        return [row.task == "composed" or decision.rewrite for row, decision in decided]

    def decisions(self, gallery: Gallery) -> list[Decision]:
        """What the gate says of each query."""
        gate_inputs = gallery.gate_inputs([row.query for row in self.rows])
        return [
            decide(row.query, gate_input, self.fitted.gate)
            for row, gate_input in zip(self.rows, gate_inputs, strict=True)
        ]

    def _measure(self, spec: SystemSpec, gallery: Gallery) -> Measured:
        samples: dict[Row, Samples] = {}
        if spec.model in ("frozen", "tuned"):
            plans = self._plans(spec, gallery, samples)
        else:
            typed = [self._without_model(spec, row, gallery) for row in self.rows]
            tau = self.fitted.mixture.temperature(gallery.encoder.temperature)
            plans = [Plan.of(search, Rewriting("kept", "not requested"), tau) for search in typed]
        searches = [self._searches(spec, plan, gallery) for plan in plans]
        found = retrieve(gallery.corpus, self._questions(plans, searches, gallery))
        paid = [self._paid(spec, samples)] if samples else []
        if spec.rerank:
            candidates = self.settings.rerank_candidates
            how = self._reranking(spec)._replace(candidates=candidates)
            found, answers = rerank_found(self.rows, plans, found, gallery, how)
            paid += [answer.paid for answer in answers]
        return Measured(
            texts=[shown(own, row.reference) for row, own in zip(self.rows, searches, strict=True)],
            ranks=found.ranks.astype(int).tolist(),
            top=found.top,
            target_similarity=found.target_similarity,
            random_similarity=found.random_similarity,
            subset_ranks=found.subset_ranks,
            first_probability=found.first_probability,
            target_probability=found.target_probability,
            first_without=found.first_without,
            confident_from=self.fitted.mixture.confident,
            cost=per_query(paid, sum(map(len, searches)), len(self.rows)),
        )

    def _plans(self, spec: SystemSpec, gallery: Gallery, samples: dict[Row, Samples]) -> list[Plan]:
        """The search plan of each row, as serving makes it; fills in what the model wrote."""
        known_scores = gallery.index.manifest.known_scores
        gate, mixture = self.fitted
        if not spec.typed:
            mixture = mixture.model_copy(update={"typed": dict.fromkeys(mixture.typed, 0.0)})
        setting = Setting(
            gallery.encoder,
            known_scores,
            lambda _: gate,
            lambda _: mixture,
            is_name=gallery.is_name,
        )
        options = PlanOptions(spec.rewrite, spec.fusion)
        steps = []
        for row in self.rows:
            query = Query(row.query, gallery.reference(row), TASKS[row.task])
            steps.append(plan_query(query, as_typed(query, gallery.encoder), options, setting))

        def answers(asked: dict[int, list[Prompt]]) -> dict[int, Sequence[Answer]]:
            rows = {number: self._as_rows(number, prompts) for number, prompts in asked.items()}
            whole = dict.fromkeys(row for own in rows.values() if len(own) == 1 for row in own)
            parts = dict.fromkeys(row for own in rows.values() if len(own) > 1 for row in own)
            samples.update(self._samples(spec, list(whole)))
            # As in serving, the parts of a long query have one rewrite each.
            samples.update(self._samples(spec._replace(finds="one"), list(parts)))
            return {
                n: [_Written(usable_rewrites(samples[row].answers(spec.fusion))) for row in own]
                for n, own in rows.items()
            }

        return make_plans(steps, gallery.best_scores, answers)

    def _as_rows(self, number: int, prompts: list[Prompt]) -> list[Row]:
        """The rows that put these prompts to the model: of a long query one for each part."""
        row = self.rows[number]
        if row.caption:
            return [row]
        return [row.model_copy(update={"query": prompt.query}) for prompt in prompts]

    def _without_model(self, spec: SystemSpec, row: Row, gallery: Gallery) -> Search:
        if spec.model == "oracle":
            return Search("oracle", (row.english or row.query,))
        if spec.by == "text" and not spec.cut:
            return Search("query", (row.query,))  # cut by the encoder if it is too long
        reference = None if spec.by == "text" else gallery.reference(row)
        text = None if spec.by == "image" else row.query
        return as_typed(Query(text, reference), gallery.encoder)

    def _searches(self, spec: SystemSpec, plan: Plan, gallery: Gallery) -> list[Search]:
        """The plan's searches; or what a system that is never served makes of the rewrites."""
        rewrites = plan.rewriting.rewrites
        if rewrites and spec.medoid:
            vectors = gallery.vectors([Search("rewrite", rewrite) for rewrite in rewrites])
            return [Search("rewrite", rewrites[medoid(vectors)])]
        if rewrites and spec.by == "image+text":
            (picture,) = (part for part in plan.typed.parts if not isinstance(part, str))
            return [Search("picture + rewrite", (picture, *rewrites[0]))]
        return plan.searches

    def _questions(
        self, plans: Sequence[Plan], searches: Sequence[Sequence[Search]], gallery: Gallery
    ) -> list[Question]:
        vectors = gallery.vectors([search for own in searches for search in own])
        questions, start = [], 0
        for row, plan, own in zip(self.rows, plans, searches, strict=True):
            left_out = (*((row.reference,) if row.reference else ()), *row.excluded)
            questions.append(
                Question(
                    vectors[start : start + len(own)],
                    plan.how,
                    gallery.places(row.targets),
                    gallery.places(left_out),
                    gallery.places(row.group),
                    gallery.demoted(plan),
                )
            )
            start += len(own)
        return questions

    def _samples(self, spec: SystemSpec, rows: Sequence[Row]) -> dict[Row, Samples]:
        model, name = self._model(spec.model)
        how = self._sampling(spec)
        name = f"rewrites-{name}-{self._base_revision[:12]}-{_named(how)}.jsonl"
        file = self.settings.work / name
        tasks = tasks_of(spec.prompt, self.adapter, self._chat)
        count = 0 if how == Sampling() else how.n
        request = SamplingRequest(tasks, rows, count, how.temperature, file, coverage=how.coverage)
        return self.engine.samples(model, request)

    def _reranking(self, spec: SystemSpec) -> Reranking:
        if spec.rerank == "cross-encoder":
            assert self.pair_model, "a system with a cross-encoder is measured with one"
            return by_pairs(self.pair_model, self.settings.work)
        judge = self._judge(spec)
        if spec.rerank == "listwise":
            return judge.by_order()
        assert spec.rerank
        return judge.by_score(self.fitted.mixture, spec.rerank)

    def _judge(self, spec: SystemSpec) -> Judge:
        """The model that compares: the frozen one, the reranker, or the one that rewrites."""
        own = None if spec.frozen_judge else self._reranker_for(spec)
        model = "frozen" if spec.frozen_judge else spec.model
        path, name = self._merged(own) if own else self._model(model)
        name = f"{name}-{self._base_revision[:12]}"
        tasks = {**RERANK_TASKS, **own.tasks} if own else RERANK_TASKS
        return Judge(self.engine, path, name, self._count, self.settings.work, tasks)

    def _reranker_for(self, spec: SystemSpec) -> Adapter | None:
        """The reranker, if it was trained for what the system asks."""
        asked = {"group": RERANK.name, "likelihood": LIKELIHOOD.name}.get(str(spec.rerank))
        trained = self.reranker.manifest.tasks if self.reranker else {}
        return self.reranker if asked in trained else None

    def _model(self, model: Model) -> tuple[str, str]:
        """The checkpoint of a system's model, and what it is called in names of files."""
        assert self.base, "a system with a model is measured with one"
        if model != "tuned":
            return self.base.path, "frozen"
        assert self.adapter
        return self._merged(self.adapter)

    def _merged(self, adapter: Adapter) -> tuple[str, str]:
        assert self.base
        return str(merge_adapter(Path(self.base.path), adapter, merged_dir())), adapter.name

    @cached_property
    def _chat(self) -> ChatTemplate | None:
        assert self.base
        return self.base.chat(self.settings.prompt_style, self.adapter)

    def _sampling(self, spec: SystemSpec) -> Sampling:
        """How a system's rewrites are found."""
        if spec.finds == "one":
            return Sampling()
        found = AUTO if self.settings.n == "auto" else Sampling(self.settings.n)
        return Sampling(found.n, self.settings.temperature) if spec.finds == "drawn" else found

    def _paid(self, spec: SystemSpec, samples: dict[Row, Samples]) -> Paid:
        """For all rewrites."""
        tasks = tasks_of(spec.prompt, self.adapter, self._chat)
        prompts = [tasks[row.task].prompt(row.asked) for row in samples]
        written = [text for sample in samples.values() for text, _ in sample.answers(spec.fusion)]
        seconds = sum(sample.seconds for sample in samples.values())
        return Paid(len(prompts), self._count(prompts), self._count(written), seconds)

    def _count(self, texts: Sequence[str]) -> int:
        return sum(map(len, self._tokenizer(list(texts)).input_ids)) if texts else 0

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        assert self.base
        return self.base.tokenizer()

    def _key(self, spec: SystemSpec, gallery: Gallery) -> str:
        """A hash of everything that the outcome depends on."""
        parts: list[object] = [_FORMAT, spec, gallery.identity, self.settings.encoder_precision]
        parts += [self.fitted.mixture.model_dump()]
        parts += [row.model_dump_json() for row in self.rows]
        if spec.model in ("frozen", "tuned"):
            tasks = tasks_of(spec.prompt, self.adapter, self._chat)
            parts += [self._base_revision, sorted(task.hash for task in tasks.values())]
            parts += [self.adapter.content_sha256] if self.adapter else []
            parts += [self._sampling(spec)]
            if spec.rerank:
                parts += depends_on(spec.rerank, self.pair_model)
                parts += [self.settings.rerank_candidates]
            parts += [self.reranker.content_sha256] if spec.rerank and self.reranker else []
            parts += [self.fitted.gate.model_dump(), gallery.index.manifest.known_scores]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]

    @property
    def _base_revision(self) -> str:
        assert self.base
        return self.base.revision


def _named(how: Sampling) -> str:
    """For the name of a file."""
    if how == Sampling():
        return "greedy"
    return f"{how.n}-at-{how.temperature:g}" + (f"-{how.coverage:g}" if how.coverage < 1 else "")
