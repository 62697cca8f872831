"""Training rows for an index without any: a language model writes what people would type.

For each caption it writes names in the asked languages, long descriptions, and the changes that
lead from near pictures to this one. A query is kept if one of its rewrites finds its picture, and
if it is in its language and not the caption again. The row's ``english`` is the caption.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from models.common.errors import GrapeError, InputError
from models.common.files import write_file
from models.common.paths import index_dir
from models.common.progress import say
from models.retriever.image_index import ImageIndex
from models.rewriter.answers import read_rewrite
from models.rewriter.protocol import Prompt, Rewriter, Sampling
from training.data.captions.card import Made, card
from training.data.captions.checks import (
    Duplicates,
    LeftOut,
    Written,
    read_answers,
    wrong_by_itself,
)
from training.data.captions.drafts import Draft, Pictured, drafts_of
from training.data.captions.finding import (
    Found,
    found_by_captions,
    found_by_rewrites,
    task_of,
)
from training.data.captions.kept_answers import Answers, KeptAnswers
from training.data.captions.pictures import pictures_with_captions
from training.data.captions.settings import CaptionSettings
from training.data.rows import Row
from training.data.splits import split_of
from training.rewards.scorer import Scorer, load_retriever

# In a small gallery the first ten may be half of it: a picture must be among one in 20 of all.
_SHARE = 20


def from_captions(settings: CaptionSettings) -> str:
    """Writes the rows and their card; returns how many there are, and what was left out.

    Raises:
        InputError: no captions, or an index or a model that cannot be used.
        GrapeError: nothing that was written is kept, or the model stopped answering.
    """
    scorer = Scorer(load_retriever(settings))
    made = asyncio.run(_made(settings, scorer))
    place = settings.out.with_suffix(".md")
    write_file(place, card(made, settings, _described(settings, scorer.retriever.index)).encode())
    if not made.rows:
        raise GrapeError(f"No query is kept; {place} says why, with samples.")
    lines = "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row, _ in made.rows)
    write_file(settings.out, lines.encode())
    return f"{settings.out}: {made.summary()}.\nThe card is {place}: read its samples."


async def _made(settings: CaptionSettings, scorer: Scorer) -> Made:
    if not (settings.names or settings.descriptions or settings.changes):
        raise InputError("--names, --descriptions and --changes are all 0: nothing to write.")
    index = scorer.retriever.index
    worst_rank = min(settings.worst_rank, max(1, len(index) // _SHARE))
    kept = KeptAnswers(settings.work_file, _model(settings), _starter(settings), settings.at_once)
    async with kept as answers:
        captions = await pictures_with_captions(settings, index, answers)
        pictures = _that_are_found(captions.pictures, scorer, worst_rank)
        drafts = drafts_of(settings, pictures, index)
        say(f"{len(drafts):,} prompts about {len(pictures):,} captions.")
        texts = await _texts(settings, drafts, answers)
        left_out, candidates = _screened(texts, settings.languages)
        found = await found_by_rewrites(candidates, answers, scorer, settings.rewrites)
    rows, left_out = _kept(candidates, found, worst_rank, left_out)
    lost = len(captions.pictures) - len(pictures)
    return Made(rows, left_out, len(pictures), captions.without, captions.seen, lost)


def _that_are_found(
    pictures: Sequence[Pictured], scorer: Scorer, worst_rank: int
) -> list[Pictured]:
    """The pictures whose captions find them.

    Raises:
        InputError: there is none.
    """
    ranks = found_by_captions(pictures, scorer)
    found = [one for one, rank in zip(pictures, ranks, strict=True) if rank <= worst_rank]
    if not found:
        raise InputError(
            f"No caption finds its picture among the first {worst_rank}: are these the captions of "
            "these pictures?"
        )
    return found


async def _texts(
    settings: CaptionSettings, drafts: Sequence[Draft], answers: KeptAnswers
) -> list[Written]:
    """What the model writes, one kind after the other."""
    texts: list[Written] = []
    for task in ("multilingual", "long", "composed"):
        some = [draft for draft in drafts if draft.task == task]
        count = settings.names if task == "multilingual" else 1
        sampling = Sampling(count, settings.temperature)
        done = await answers.ask([one.prompt for one in some], sampling, f"Writing ({task})")
        if task != "multilingual":
            done = await _translated(some, done, answers, task)
        texts += read_answers(some, done)
    return texts


async def _translated(
    drafts: Sequence[Draft], english: Sequence[Answers], answers: KeptAnswers, task: str
) -> list[Answers]:
    """The answers, those in another language than English translated."""
    prompts: dict[int, Prompt] = {}
    for place, (draft, some) in enumerate(zip(drafts, english, strict=True)):
        text = read_rewrite(some[0].text) if some else None
        if text and (prompt := draft.translated(text)):
            prompts[place] = prompt
    done = await answers.ask(list(prompts.values()), Sampling(), f"Translating ({task})")
    return [*(dict(enumerate(english)) | dict(zip(prompts, done, strict=True))).values()]


def _screened(
    texts: Sequence[Written], languages: Sequence[str]
) -> tuple[list[LeftOut], list[Written]]:
    """What is left out before anything is searched, and the rest."""
    left_out: list[LeftOut] = []
    candidates = []
    for written in texts:
        reason = wrong_by_itself(written, languages)
        if reason:
            left_out.append(LeftOut(written, reason))
        else:
            candidates.append(written)
    return left_out, candidates


def _kept(
    candidates: Sequence[Written],
    found: Sequence[Found],
    worst_rank: int,
    left_out: list[LeftOut],
) -> tuple[list[tuple[Row, Found]], list[LeftOut]]:
    """The rows; of near-duplicates the one whose rewrite ranks best."""
    duplicates = Duplicates()
    rows: dict[int, tuple[Row, Found]] = {}
    for place in sorted(range(len(candidates)), key=lambda place: found[place].rank):
        written = candidates[place]
        if found[place].rank > worst_rank:
            left_out.append(LeftOut(written, "does not find its picture"))
        elif duplicates.has(written):
            left_out.append(LeftOut(written, "near-duplicates"))
        else:
            duplicates.add(written)
            rows[place] = _row(written), found[place]
    return [rows[place] for place in sorted(rows)], left_out


def _row(written: Written) -> Row:
    draft = written.draft
    return Row(
        query=written.query,
        targets=(draft.target.id,),
        task=task_of(written),
        language=draft.language,
        split=split_of(draft.target.id),
        english=draft.target.caption,
        reference=draft.reference.id if draft.reference else None,
        caption=draft.reference.caption if draft.reference else None,
    )


def _model(settings: CaptionSettings) -> str:
    return f"{settings.llm} {settings.llm_endpoint or ''}"


def _starter(settings: CaptionSettings) -> Callable[[], Rewriter]:
    def start() -> Rewriter:
        if settings.llm_endpoint:
            from models.rewriter.endpoint import EndpointRewriter

            key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else None
            return EndpointRewriter(
                settings.llm_endpoint, settings.llm, key, sees_pictures=settings.see
            )
        from models.rewriter.base_model import find_checkpoint
        from models.rewriter.vllm import VLLMOptions, VLLMRewriter

        return VLLMRewriter(VLLMOptions(str(find_checkpoint(settings.llm)), max_num_seqs=128))

    return start


def _described(settings: CaptionSettings, index: ImageIndex) -> str:
    place = settings.index or index_dir()
    name = place.name if isinstance(place, Path) else str(place)
    encoder = index.manifest.encoder.name.rsplit("/", 1)[-1]
    return f"{name}, {len(index):,} pictures, encoder {encoder}"
