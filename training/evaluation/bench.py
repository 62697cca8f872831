"""One system on all queries: asked, searched, counted, and kept for the next run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ValidationError

from models.common.errors import InputError
from models.common.paths import merged_dir
from models.retriever.clip_encoder import ClipEncoder
from models.retriever.image_index import ImageIndex
from models.retriever.text_encoder import TextEncoder
from models.retriever.types import Vectors
from models.rewriter.adapter import Adapter, merge_adapter
from models.rewriter.tasks import parse_rewrite
from models.search.composed import repeats, words_beside
from models.search.gate import Gate, GateInput, decide
from models.search.long_text import readable_parts
from training.data.rows import Row
from training.evaluation.results import Cost
from training.evaluation.retrieval import mean_vector, retrieve
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import By, SystemSpec, tasks_of, texts_of
from training.rewards.ranking import Corpus
from training.stages.language_model import LanguageModel
from training.stages.sampling import Engine, Samples, SamplingRequest

# What a list of pictures is searched with: a text, a picture by its position in the index, or the
# mean vector of several.
Part = str | int | tuple[str, ...]
_FORMAT = 7  # of what is kept; another one is measured anew


class Measured(BaseModel):
    """What one system did; lists have one entry for each query."""

    texts: list[tuple[str, ...]]
    ranks: list[int]
    top: list[list[int]]  # positions in the index
    target_similarity: list[float] | None
    random_similarity: list[float] | None
    subset_ranks: list[int] | None
    cost: Cost


class Gallery:
    """An index with its encoder; remembers the vectors of texts."""

    def __init__(self, encoder: ClipEncoder | TextEncoder, index: ImageIndex, device: str) -> None:
        self.encoder = encoder
        self.index = index
        self.corpus = Corpus.of(index.vectors(), device)
        self._vectors: dict[Part, Vectors] = {}

    def vectors(self, parts: Sequence[Part]) -> dict[Part, Vectors]:
        """Encodes in one batch what was not encoded before; pictures are in the index already."""
        groups = [part for part in dict.fromkeys(parts) if isinstance(part, tuple)]
        single = [*parts, *(text for group in groups for text in group)]
        new = [part for part in dict.fromkeys(single) if part not in self._vectors]
        texts = [part for part in new if isinstance(part, str)]
        pictures = [part for part in new if isinstance(part, int)]
        if texts:
            self._vectors.update(zip(texts, self.encoder.encode_texts(texts), strict=True))
        known = self.corpus.vectors[pictures].cpu().numpy()
        self._vectors.update(zip(pictures, known, strict=True))
        for group in groups:
            self._vectors[group] = mean_vector(np.stack([self._vectors[text] for text in group]))
        return self._vectors

    def positions(self, rows: Sequence[Row]) -> list[list[int]]:
        return [self._places(row.targets) for row in rows]

    def references(self, rows: Sequence[Row]) -> list[list[int]]:
        """Of each row the picture that it refers to, where it does."""
        named = [(row.reference,) if row.reference else () for row in rows]
        return [self._places(pictures) for pictures in named]

    def groups(self, rows: Sequence[Row]) -> list[list[int]] | None:
        """Of each row the pictures of its group, where all rows have one."""
        groups = [row.group for row in rows if row.group]
        return [self._places(group) for group in groups] if len(groups) == len(rows) else None

    def _places(self, pictures: Sequence[str]) -> list[int]:
        found = [self.index.position(picture) for picture in pictures]
        if None in found:
            raise InputError("The data's pictures are not all in the index.")
        return [position for position in found if position is not None]

    def gate_inputs(self, queries: Sequence[str]) -> list[GateInput]:
        """What the gate sees of each query."""
        known = self.index.manifest.known_scores
        vectors = self.vectors(queries)
        found = self.index.search(np.stack([vectors[query] for query in queries]), 1)
        return [
            GateInput(self.encoder.text_length(query), hits[0].score if hits else None, known)
            for query, hits in zip(queries, found, strict=True)
        ]

    @property
    def identity(self) -> tuple[str, ...]:
        manifest = self.index.manifest
        return manifest.ids_sha256, manifest.encoder.weights_sha256, manifest.vectors_file


@dataclass(frozen=True)
class Bench:
    """What every system is measured with."""

    settings: EvalSettings
    rows: Sequence[Row]
    base: LanguageModel | None
    adapter: Adapter | None
    gate: Gate
    engine: Engine

    def measured(self, spec: SystemSpec, gallery: Gallery) -> Measured:
        """From the work folder where the same was measured before."""
        path = self.settings.work / f"{self._key(spec, gallery)}.json"
        try:
            return Measured.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            found = self._measure(spec, gallery)
        self.settings.work.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".unfinished")
        beside.write_text(found.model_dump_json())
        beside.replace(path)
        return found

    def gated(self, gallery: Gallery) -> list[bool]:
        """Whether `rewrite: auto` rewrites each query."""
        gate_inputs = gallery.gate_inputs([row.query for row in self.rows])
        return [
            row.task == "composed" or decide(row.query, gate_input, self.gate).rewrite
            for row, gate_input in zip(self.rows, gate_inputs, strict=True)
        ]

    def _named(self, gallery: Gallery) -> dict[str, tuple[str, ...]]:
        """Changes whose English words the encoder knows, with those."""
        changes = {row.query for row in self.rows if row.task == "composed"}
        words = {change: words_beside(change) for change in sorted(changes)}
        words = {change: said for change, said in words.items() if said}
        gate_inputs = gallery.gate_inputs([said[0] for said in words.values()]) if words else []
        return {
            change: said
            for (change, said), gate_input in zip(words.items(), gate_inputs, strict=True)
            if not decide(said[0], gate_input, self.gate).rewrite
        }

    def _measure(self, spec: SystemSpec, gallery: Gallery) -> Measured:
        texts: list[tuple[Part, ...]] = [(row.query,) for row in self.rows]
        references = gallery.references(self.rows)
        if spec.cut:
            texts = [tuple(readable_parts(row.query, gallery.encoder)) for row in self.rows]
        prompt_tokens = written_tokens = seconds = 0.0
        if spec.model == "oracle":
            texts = [(row.english or row.query,) for row in self.rows]
        elif spec.model != "none":
            as_served = spec.gated or spec.beside
            known = [not rewrites for rewrites in self.gated(gallery)] if as_served else []
            asked = [n for n in range(len(self.rows)) if not (spec.gated and known[n])]
            named = self._named(gallery) if as_served else {}
            samples = self._samples(spec, [self.rows[place] for place in asked])
            for place in asked:
                row = self.rows[place]
                written = (samples[row].greedy, *samples[row].drawn)
                rewrites = [text for answer in written if (text := parse_rewrite(answer))]
                texts[place] = texts_of(spec.with_original, row.query, rewrites)
                if as_served:
                    beside = named.get(row.query) or references[place]
                    texts[place] = _as_served(row, rewrites, known[place], beside)
                seconds += samples[row].seconds
            prompt_tokens, written_tokens = self._tokens(spec, samples)
        searched = _searched(spec.by, texts, references)
        every = [part for group in searched for part in group]
        found = retrieve(
            gallery.corpus,
            gallery.vectors(every),
            searched,
            gallery.positions(self.rows),
            spec.combine,
            references,
            gallery.groups(self.rows),
        )
        count = len(self.rows)
        names = gallery.index.ids
        return Measured(
            texts=[tuple(_said(part, names) for part in group) for group in searched],
            ranks=found.ranks.astype(int).tolist(),
            top=found.top,
            target_similarity=found.target_similarity,
            random_similarity=found.random_similarity,
            subset_ranks=found.subset_ranks,
            cost=Cost(
                prompt_tokens=prompt_tokens / count,
                written_tokens=written_tokens / count,
                llm_seconds=seconds / count,
                searches=len(every) / count if spec.combine in ("rrf", "interleave") else 1.0,
            ),
        )

    def _samples(self, spec: SystemSpec, rows: Sequence[Row]) -> dict[Row, Samples]:
        assert self.base, "a system with a model is measured with one"
        model, name = self.base.path, "frozen"
        if spec.model == "tuned":
            assert self.adapter
            name = self.adapter.name
            model = str(merge_adapter(Path(model), self.adapter, merged_dir()))
        drawn, temperature = self.settings.n if spec.draws else 0, self.settings.temperature
        how = f"{drawn}-at-{temperature:g}" if drawn else "greedy"
        file = self.settings.work / f"rewrites-{name}-{self._base_revision[:12]}-{how}.jsonl"
        tasks = tasks_of(spec.prompt, self.adapter)
        request = SamplingRequest(tasks, rows, drawn, temperature, file)
        return self.engine.samples(model, request)

    def _tokens(self, spec: SystemSpec, samples: dict[Row, Samples]) -> tuple[int, int]:
        """Of all prompts, and of all that was written."""
        assert self.base
        tasks = tasks_of(spec.prompt, self.adapter)
        prompts = [tasks[row.task].prompt(row.asked) for row in samples]
        written = [text for sample in samples.values() for text in (sample.greedy, *sample.drawn)]
        tokenizer = self.base.tokenizer()

        def count(texts: list[str]) -> int:
            return sum(map(len, tokenizer(texts).input_ids)) if texts else 0

        return count(prompts), count(written)

    def _key(self, spec: SystemSpec, gallery: Gallery) -> str:
        """A hash of all that the outcome depends on."""
        parts: list[object] = [_FORMAT, spec, gallery.identity, self.settings.encoder_precision]
        parts += [row.model_dump_json() for row in self.rows]
        if spec.model in ("frozen", "tuned"):
            tasks = tasks_of(spec.prompt, self.adapter)
            parts += [self._base_revision, sorted(task.hash for task in tasks.values())]
            parts += [self.adapter.content_sha256] if self.adapter else []
            parts += [self.settings.n, self.settings.temperature] if spec.draws else []
            gate = (self.gate.model_dump(), gallery.index.manifest.known_scores)
            parts += [gate] if spec.gated or spec.beside else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]

    @property
    def _base_revision(self) -> str:
        assert self.base
        return self.base.revision


def _searched(
    by: By, texts: Sequence[tuple[Part, ...]], references: Sequence[Sequence[int]]
) -> list[tuple[Part, ...]]:
    """What is searched for each query."""
    if by == "text":
        return list(texts)
    words = texts if by == "image+text" else [()] * len(texts)
    return [(*picture, *group) for picture, group in zip(references, words, strict=True)]


def _as_served(
    row: Row, rewrites: list[str], known: bool, beside: Sequence[Part]
) -> tuple[Part, ...]:
    """The lists that serving makes of a query's rewrite; see ``models.search.fusion.chosen``.

    Args:
        beside: what a composed query's rewrite is taken in turns with.
    """
    if not rewrites:
        return (row.query,)
    if row.task != "composed":
        return (texts_of(known, row.query, rewrites),)
    left_out = repeats(row.caption or "", " ".join(rewrites))
    words = words_beside(row.query) if left_out else ()
    return ((*rewrites, *words), *beside)


def _said(part: Part, names: Sequence[str]) -> str:
    """For people; ``names`` are the pictures'."""
    if isinstance(part, int):
        return f"image {names[part]}"
    return part if isinstance(part, str) else " + ".join(part)
