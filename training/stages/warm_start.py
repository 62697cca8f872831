"""The warm start: SFT on the model's own best-ranked rewrites, on the short prompt.

Rejection sampling. The prompt with examples draws rewrites; for each query the one that ranks the
right picture best is kept; SFT teaches the model to write it without the examples. GRPO then starts
from a model that already answers in shape, at a tenth of the prompt's cost.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from peft import PeftModel

from models.common.errors import GrapeError
from models.rewriter.adapter import open_adapter
from models.rewriter.tasks import STOP, Task
from training.data.rows import Row
from training.rewards.rewards import is_well_formed
from training.rewards.scorer import Scorer
from training.settings import TrainSettings
from training.stages.checkpoints import last_checkpoint
from training.stages.language_model import LanguageModel, Tokenizer, lora, peft_model
from training.stages.monitor import Progress
from training.stages.sampling import Samples

LOSSES = "losses.json"  # [step, mean negative log-likelihood of the answers' tokens]


class SFTExample(NamedTuple):
    """A query with the rewrite that SFT teaches."""

    row: Row
    rewrite: str
    rank: int


def choose_sft_examples(
    scorer: Scorer,
    samples: Mapping[Row, Samples],
    worst_rank: int,
    with_english: Collection[str] = (),
) -> list[SFTExample]:
    """The best-ranked rewrite of each query; queries that no rewrite answers are left out.

    Of rewrites that rank alike the one that was written most often is taken, then the shortest:
    what one query's luck found does not teach the next.

    Args:
        worst_rank: a rewrite that ranks lower is no lesson.
        with_english: tasks whose rows' own ``english`` is one more candidate: where a model has yet
            to write a single right answer, it cannot learn from its own.
    """
    rows = list(samples)
    texts: list[str] = []
    owners: list[int] = []
    votes: list[int] = []
    for number, (row, sample) in enumerate(samples.items()):
        given = (row.english,) if row.english and row.task in with_english else ()
        candidates = (sample.greedy, *sample.drawn, *given)
        usable = [text for text in candidates if is_well_formed(text)]
        for text in dict.fromkeys(text.strip() for text in usable):
            texts.append(text)
            owners.append(number)
            votes.append(sum(other.strip() == text for other in usable))
    ranks = scorer.rank(texts, [rows[number].targets for number in owners]).rank
    order = np.lexsort(
        [np.array([len(t) for t in texts]), -np.array(votes), ranks, np.array(owners)]
    )
    sft_examples = {}
    for place in order.tolist():
        if owners[place] not in sft_examples and ranks[place] <= worst_rank:
            sft_example = SFTExample(rows[owners[place]], texts[place], int(ranks[place]))
            sft_examples[owners[place]] = sft_example
    return list(sft_examples.values())


def warm_start(
    settings: TrainSettings,
    base: LanguageModel,
    tasks: Mapping[str, Task],
    sft_examples: Sequence[SFTExample],
    folder: Path,
) -> Path:
    """Teaches the lessons; returns the folder of the PEFT adapter. Goes on where it was cut off."""
    done = folder / "adapter"
    if done.is_dir():
        return done
    if not sft_examples:
        raise GrapeError(
            "No sampled rewrite ranks well enough to learn from: raise --warm-start-rank or "
            "--samples, or look at `grape train --dry-run`."
        )
    from datasets import Dataset
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    from training.stages.answers_only import AnswersOnlyTrainer

    set_seed(settings.seed)  # the adapter begins at random numbers, before the trainer seeds
    tokenizer = base.tokenizer()
    data = Dataset.from_list(
        [_tokenised(tokenizer, tasks, sft_example) for sft_example in sft_examples]
    )
    micro = min(settings.micro_batch, settings.warm_start_batch)
    trainer_class = SFTTrainer if base.on_gpu else AnswersOnlyTrainer
    model: Any = base.load()
    if settings.start_from:
        before = open_adapter(settings.start_from, base.revision)
        model = PeftModel.from_pretrained(model, str(before.folder), is_trainable=True)
    trainer = trainer_class(
        model=model,
        processing_class=tokenizer,
        train_dataset=data,
        peft_config=None if settings.start_from else lora(settings),
        args=SFTConfig(
            output_dir=str(folder),
            per_device_train_batch_size=micro,
            gradient_accumulation_steps=max(1, settings.warm_start_batch // micro),
            num_train_epochs=settings.warm_start_epochs,
            learning_rate=settings.warm_start_learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=10,
            logging_steps=5,
            save_steps=50,
            save_total_limit=2,
            seed=settings.seed,
            max_length=256,
            train_sampling_strategy="group_by_length",  # descriptions would pad names fivefold
            gradient_checkpointing=False,
            bf16=base.on_gpu,
            use_cpu=not base.on_gpu,
            report_to=["tensorboard"],
            disable_tqdm=True,
        ),
        callbacks=[Progress("warm start")],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    beside = folder / ".adapter"
    peft_model(trainer.model).save_pretrained(str(beside))
    history = trainer.state.log_history
    losses = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    (folder / LOSSES).write_text(json.dumps(losses))
    beside.rename(done)
    return done


def _tokenised(
    tokenizer: Tokenizer, tasks: Mapping[str, Task], sft_example: SFTExample
) -> dict[str, list[int]]:
    """Prompt and rewrite as serving joins them; the newline that ends it is taught too."""
    prompt = tokenizer.encode(tasks[sft_example.row.task].prompt(sft_example.row.asked))
    rewrite = tokenizer.encode(f" {sft_example.rewrite}{STOP}", add_special_tokens=False)
    return {
        "input_ids": prompt + rewrite,
        "completion_mask": [0] * len(prompt) + [1] * len(rewrite),
    }
