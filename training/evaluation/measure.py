"""One system on all queries: asked, searched, counted, and kept for the next run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from models.adapter import Adapter, merge_adapter
from models.demo.paths import merged_dir
from models.encoder import ClipEncoder
from models.errors import InputError
from models.gate import decide
from models.index import ImageIndex
from models.tasks import parse_rewrite
from models.text_encoder import TextEncoder
from models.types import Vectors
from training.data import Row
from training.evaluation.results import Cost
from training.evaluation.retrieval import retrieve
from training.evaluation.settings import EvalSettings
from training.evaluation.systems import SystemSpec, tasks_of, texts_of
from training.language_model import LanguageModel
from training.ranking import Corpus
from training.sampling import Engine, Samples

_FORMAT = 1  # of what is kept; another one is measured anew


class Measured(BaseModel):
    """What one system did; lists have one entry for each query."""

    texts: list[tuple[str, ...]]
    ranks: list[int]
    top: list[list[int]]  # positions in the index
    target_similarity: list[float] | None
    random_similarity: list[float] | None
    cost: Cost


class Gallery:
    """An index with its encoder; remembers the vectors of texts."""

    def __init__(self, encoder: ClipEncoder | TextEncoder, index: ImageIndex, device: str) -> None:
        self.encoder = encoder
        self.index = index
        self.corpus = Corpus.of(index.vectors(), device)
        self._vectors: dict[str, Vectors] = {}

    def vectors(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """Encodes in one batch what was not encoded before."""
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, self.encoder.encode_texts(new), strict=True))
        return self._vectors

    def positions(self, rows: Sequence[Row]) -> list[list[int]]:
        found = [[self.index.position(target) for target in row.targets] for row in rows]
        if any(position is None for positions in found for position in positions):
            raise InputError("The data's pictures are not all in the index.")
        return [[p for p in positions if p is not None] for positions in found]

    @property
    def identity(self) -> tuple[str, str]:
        manifest = self.index.manifest
        return manifest.ids_sha256, manifest.encoder.weights_sha256


@dataclass(frozen=True)
class Bench:
    """What every system is measured with."""

    settings: EvalSettings
    rows: Sequence[Row]
    base: LanguageModel | None
    adapter: Adapter | None
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

    def gate(self, gallery: Gallery) -> list[bool]:
        """Whether `rewrite: auto` rewrites each query."""
        encoder = gallery.encoder
        return [decide(row.query, encoder.text_length(row.query)).rewrite for row in self.rows]

    def _measure(self, spec: SystemSpec, gallery: Gallery) -> Measured:
        texts: list[tuple[str, ...]] = [(row.query,) for row in self.rows]
        prompt_tokens = written_tokens = seconds = 0.0
        if spec.model == "oracle":
            texts = [(row.english or row.query,) for row in self.rows]
        elif spec.model != "none":
            asked = [
                place
                for place, rewrites in enumerate(self.gate(gallery))
                if rewrites or not spec.gated
            ]
            samples = self._samples(spec, [self.rows[place] for place in asked])
            for place in asked:
                row = self.rows[place]
                written = (samples[row].greedy, *samples[row].drawn)
                rewrites = [text for answer in written if (text := parse_rewrite(answer))]
                texts[place] = texts_of(spec, row.query, rewrites)
                seconds += samples[row].seconds
            prompt_tokens, written_tokens = self._tokens(spec, samples)
        every = [text for group in texts for text in group]
        found = retrieve(
            gallery.corpus,
            gallery.vectors(every),
            texts,
            gallery.positions(self.rows),
            spec.combine,
        )
        count = len(self.rows)
        return Measured(
            texts=texts,
            ranks=found.ranks.astype(int).tolist(),
            top=found.top,
            target_similarity=found.target_similarity,
            random_similarity=found.random_similarity,
            cost=Cost(
                prompt_tokens=prompt_tokens / count,
                written_tokens=written_tokens / count,
                llm_seconds=seconds / count,
                searches=len(every) / count if spec.combine == "rrf" else 1.0,
            ),
        )

    def _samples(self, spec: SystemSpec, rows: Sequence[Row]) -> dict[Row, Samples]:
        assert self.base, "a system with a model is measured with one"
        model, name = self.base.path, "frozen"
        if spec.model == "tuned":
            assert self.adapter
            name = self.adapter.name
            model = str(merge_adapter(Path(model), self.adapter, merged_dir()))
        drawn = self.settings.n if spec.draws else 0
        file = self.settings.work / f"rewrites-{name}-{self._base_revision[:12]}-{drawn}.jsonl"
        return self.engine.samples(
            model, tasks_of(spec.prompt, self.adapter), rows, drawn, self.settings.temperature, file
        )

    def _tokens(self, spec: SystemSpec, samples: dict[Row, Samples]) -> tuple[int, int]:
        """Of all prompts, and of all that was written."""
        assert self.base
        tasks = tasks_of(spec.prompt, self.adapter)
        prompts = [tasks[row.task].prompt(row.query) for row in samples]
        written = [text for sample in samples.values() for text in (sample.greedy, *sample.drawn)]
        tokenizer = self.base.tokenizer()

        def count(texts: list[str]) -> int:
            return sum(map(len, tokenizer(texts).input_ids)) if texts else 0

        return count(prompts), count(written)

    def _key(self, spec: SystemSpec, gallery: Gallery) -> str:
        """A hash of all that the outcome depends on."""
        parts: list[object] = [_FORMAT, spec, gallery.identity]
        parts += [row.model_dump_json() for row in self.rows]
        if spec.model in ("frozen", "tuned"):
            tasks = tasks_of(spec.prompt, self.adapter)
            parts += [self._base_revision, sorted(task.hash for task in tasks.values())]
            parts += [self.adapter.content_sha256] if self.adapter else []
            parts += [self.settings.n, self.settings.temperature] if spec.draws else []
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]

    @property
    def _base_revision(self) -> str:
        assert self.base
        return self.base.revision
