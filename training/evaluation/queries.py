"""The queries of an evaluation: where they come from, and which slices they are in."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from models.common.errors import InputError
from models.common.progress import say, track
from models.retriever.image_index import ImageIndex
from models.retriever.open import EncoderOptions, open_encoder
from models.retriever.text_encoder import PREFIX
from models.retriever.types import Encoder, Metadata
from training.data.benchmarks.benchmark import Benchmark
from training.data.rows import Row
from training.data.sources import DEMO, load_rows
from training.evaluation.results import ALL, MEAN_OF_LANGUAGES, Query
from training.evaluation.settings import EvalSettings
from training.evaluation.statistics import Slice

SHORT_ENGLISH = "short plain English"
OTHER_LANGUAGES = "other languages"
_PART = 1024  # texts that are encoded between two reports of the progress
_FIRST = (ALL, MEAN_OF_LANGUAGES, OTHER_LANGUAGES, SHORT_ENGLISH)  # in the order to show

SliceNames = Callable[[Row, bool], list[str]]


def asked_rows(settings: EvalSettings) -> tuple[list[Row], Benchmark | None]:
    """The queries, and the benchmark that they belong to, if they do.

    The demo's queries include the pictures' English names, on which recall must not drop.
    """
    rows: Sequence[Row]
    benchmark = _benchmark(settings)
    if benchmark:
        rows = benchmark.rows
    elif settings.data == DEMO:
        from training.data.demo.names_and_descriptions import demo_rows, english_rows

        rows = [*demo_rows(), *english_rows()]
    else:
        rows = load_rows(settings.data)
    rows = [row for row in rows if row.split == settings.split]
    if settings.languages:
        rows = [row for row in rows if row.language in settings.languages]
    if not rows:
        among = f" in {', '.join(settings.languages)}" if settings.languages else ""
        raise InputError(f"{settings.data} has no rows of the split {settings.split!r}{among}.")
    if settings.limit:
        rows = _limited(rows, settings.limit, settings.seed)
    return rows, benchmark


def _benchmark(settings: EvalSettings) -> Benchmark | None:
    from training.data.benchmarks import HUB_COPIES, load

    if settings.folder:
        return load(settings.data, settings.folder)
    if by_name := HUB_COPIES.get(settings.data.casefold()):
        return by_name(pictures_folder(settings), settings.languages)
    return None


def pictures_folder(settings: EvalSettings) -> Path:
    """The folder of a benchmark's pictures; those from the hub are kept in the work folder."""
    return settings.folder or settings.work / settings.data.casefold()


def pictures_of(index: ImageIndex) -> tuple[Path, dict[str, Path]]:
    """The folder that an index was built from, and the files of its pictures.

    Raises:
        InputError: the index does not name all of them.
    """
    files = {name: index.picture_file(place) for place, name in enumerate(index.ids)}
    known = {name: file for name, file in files.items() if file}
    if index.manifest.pictures is None or len(known) < len(files):
        raise InputError(
            "The index does not say where all of its pictures are, so no other encoder can index "
            "them: name that encoder's own index."
        )
    return Path(index.manifest.pictures).resolve(), known


def index_of(settings: EvalSettings, benchmark: Benchmark) -> Path:
    """The folder of a benchmark's index; it is built once for each encoder.

    Raises:
        InputError: there is no such encoder, or it does not read texts.
    """
    if benchmark.texts:
        return _text_index(settings, benchmark.texts)
    return benchmark_index(settings, pictures_folder(settings), benchmark.pictures)


def _text_index(settings: EvalSettings, texts: Mapping[str, str]) -> Path:
    if not (settings.encoder or "").startswith(PREFIX):
        raise InputError(
            f"{settings.data} is a corpus of texts: name an encoder of texts with --encoder "
            f"{PREFIX}FOLDER_OR_NAME."
        )
    encoder = open_encoder(EncoderOptions(settings.encoder, device=settings.encoder_device))
    target = _place_of_index(settings, encoder)
    if not target.is_dir():
        contents = list(texts.values())
        parts = [contents[start : start + _PART] for start in range(0, len(contents), _PART)]
        vectors = [
            encoder.encode_texts(part) for part in track(parts, f"Indexing, {_PART} texts each")
        ]
        records: list[Metadata] = [{"text": text} for text in contents]
        index = ImageIndex.build(np.concatenate(vectors), list(texts), records, encoder.fingerprint)
        index.save(target)
    return target


def _place_of_index(settings: EvalSettings, encoder: Encoder) -> Path:
    return settings.work / f"index-{settings.data}-{encoder.fingerprint.weights_sha256[:12]}"


def benchmark_index(settings: EvalSettings, folder: Path, pictures: Mapping[str, Path]) -> Path:
    """The folder of an index of pictures; it is built once for each encoder."""
    from models.retriever.build import Reading, build_index

    options = EncoderOptions(
        settings.encoder, settings.pretrained, settings.encoder_device, settings.encoder_precision
    )
    encoder = open_encoder(options)
    target = _place_of_index(settings, encoder)
    if not target.is_dir():
        index, report = build_index(
            pictures,
            folder,
            encoder,
            reading=Reading(lambda ids: track(ids, "Indexing", len(pictures))),
        )
        for picture, reason in report.skipped:
            say(f"skipped {picture}: {reason}")
        index.save(target)
    return target


def _limited(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    """A random sample of at most ``most`` rows of each language and task."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.language, row.task), []).append(row)
    rng = np.random.default_rng(seed)
    return [
        group[place]
        for group in groups.values()
        for place in sorted(rng.permutation(len(group))[:most].tolist())
    ]


def described(row: Row, rewritten: bool, slice_names: SliceNames | None = None) -> Query:
    """A row as the results show it.

    Args:
        rewritten: what the gate decides.
        slice_names: the slices that a row is in; those of `grape eval` by default.
    """
    names = (slice_names or eval_slices)(row, rewritten)
    return Query(
        query=row.query, targets=row.targets, language=row.language, task=row.task,
        words=_words(row.query), gate="rewritten" if rewritten else "kept", slices=tuple(names),
        reference=row.reference,
    )  # fmt: skip


def eval_slices(row: Row, rewritten: bool) -> list[str]:
    """The slices of `grape eval`: language, task, length, and what the gate decides."""
    gate = "rewritten" if rewritten else "kept"
    length = _length(_words(row.query))
    names = [ALL, f"language {row.language}", f"task {row.task}", length, f"gate {gate}"]
    if row.task == "multilingual":
        names.insert(1, SHORT_ENGLISH if row.language == "en" else OTHER_LANGUAGES)
    return names


def card_slices(row: Row, rewritten: bool) -> list[str]:
    """The slices of a model card: the languages of the task multilingual, and the other tasks."""
    if row.task != "multilingual":
        return [ALL, row.task]
    return [ALL, row.language] + ([MEAN_OF_LANGUAGES] if row.language != "en" else [])


def slices_of(queries: Sequence[Query]) -> dict[str, Slice]:
    """The slices that are not empty, in the order to show."""
    positions: dict[str, list[int]] = {}
    for position, query in enumerate(queries):
        for name in query.slices:
            positions.setdefault(name, []).append(position)
    slices = {name: Slice.of(found) for name, found in positions.items()}
    if MEAN_OF_LANGUAGES in slices:
        by_language = _by_language(queries, positions[MEAN_OF_LANGUAGES])
        slices[MEAN_OF_LANGUAGES] = by_language
        if len(by_language.strata) == 1:  # that language has a slice of its own
            del slices[MEAN_OF_LANGUAGES]
    order = [*_FIRST, *sorted(set(slices) - set(_FIRST))]
    return {name: slices[name] for name in order if name in slices}


def _by_language(queries: Sequence[Query], positions: Sequence[int]) -> Slice:
    languages: dict[str, list[int]] = {}
    for position in positions:
        languages.setdefault(queries[position].language, []).append(position)
    return Slice(tuple(map(tuple, languages.values())))


def _words(query: str) -> int:
    """Words as the gate's word lists count them; Chinese and Japanese have no spaces."""
    from wordfreq.tokens import tokenize

    return len(tokenize(query, "en")) or 1


def _length(words: int) -> str:
    return "1-2 words" if words <= 2 else "3-5 words" if words <= 5 else "6 words and more"
