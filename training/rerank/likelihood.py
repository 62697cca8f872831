"""Teaches the likelihood to tell the right caption from the others that a search finds.

The score of a caption is log p(query | caption), as it is served. A row's loss is

    - sum over the right captions r of (grade of r / sum of grades) * log softmax over all captions
      of the scores, at r
    - own_likelihood * (score of the best right caption) / (tokens of the query)

The first term is the listwise softmax loss of Cao et al., 2007 (ListNet, top one), on the scores of
a noisy channel; to train the channel itself this way is ours. The second one keeps the model from
lowering all scores alike. Both are 0 or greater.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from torch.nn.functional import log_softmax

from models.common.errors import InputError
from models.common.files import new_folder
from models.rewriter.adapter import open_adapter
from models.rewriter.likelihood import continuation
from models.rewriter.tasks import STOP, Task
from models.search.rerank import task_of
from training.rerank.candidates import Listed, told_apart
from training.settings import TrainSettings
from training.stages.checkpoints import last_checkpoint
from training.stages.grouped_trainer import cannot_group, last_hidden_states
from training.stages.language_model import LanguageModel, Tokenizer, lora, peft_model, quick_dtype
from training.stages.monitor import Progress
from training.stages.packing import Ids, pack
from training.stages.sft import LOSSES
from training.stages.token_scores import Head, token_scores


@dataclass(frozen=True)
class Lesson:
    """A query after each of its captions, as token ids; the right captions are the first."""

    prompts: list[Ids]
    query: Ids  # with the end of its line
    grades: tuple[int, ...] = (1,)  # of the right captions


def lessons(
    tokenizer: Tokenizer, tasks: Mapping[str, Task], listed: Sequence[Listed], contrast: int,
    seed: int,
) -> list[Lesson]:  # fmt: skip
    """What each row teaches.

    Args:
        contrast: captions of a lesson.
    """
    made = []
    for one in listed:
        task = tasks[task_of("likelihood", one.row.query).name]
        chosen = told_apart(one, contrast, seed)
        asked = continuation(task, one.row.query, chosen.texts)
        query = tokenizer.encode(asked.text + STOP, add_special_tokens=False)
        prompts = [tuple(tokenizer.encode(prompt)) for prompt in asked.prompts]
        made.append(Lesson(prompts, tuple(query), chosen.grades))
    return made


def loss_of(scores: Tensor, lesson: Lesson, own_likelihood: float) -> Tensor:
    """The loss of one row, see above; a scalar.

    Args:
        scores: log p(query | caption), ``[captions]``.
    """
    grades = scores.new_tensor(lesson.grades)
    at_right = log_softmax(scores, dim=0)[: len(grades)]
    listwise = -(grades / grades.sum() * at_right).sum()
    return listwise - own_likelihood * scores[0] / len(lesson.query)


def scores_of(model: Any, batch: Sequence[Lesson], pad: int) -> list[Tensor]:
    """log p(query | caption) of each lesson's captions, float32 ``[captions]`` each."""
    found: dict[int, Tensor] = {}
    for numbers in _alike(batch):
        own = _scores_of(model, [batch[number] for number in numbers], pad)
        found |= dict(zip(numbers, own, strict=True))
    return [found[number] for number in range(len(batch))]


def _alike(batch: Sequence[Lesson]) -> list[list[int]]:
    """Lessons by length, so that a description does not pad the names beside it tenfold."""
    lengths = [len(lesson.query) + max(map(len, lesson.prompts)) for lesson in batch]
    order = sorted(range(len(batch)), key=lengths.__getitem__)
    parts = [[order[0]]]
    for number in order[1:]:
        if lengths[number] > 2 * lengths[parts[-1][0]]:
            parts.append([])
        parts[-1].append(number)
    return parts


def _scores_of(model: Any, batch: Sequence[Lesson], pad: int) -> list[Tensor]:
    prompts = [prompt for lesson in batch for prompt in lesson.prompts]
    queries = [lesson.query for lesson in batch for _ in lesson.prompts]
    packed = pack(prompts, queries, pad).to(next(model.parameters()).device)
    hidden = last_hidden_states(model, packed).flatten(0, 1)[packed.scored]
    head = Head(model.get_output_embeddings().weight)
    logs, _ = token_scores(hidden, packed.labels, head)
    # A place without a token is -1, and the last of these is 0.
    sums = torch.cat([logs, logs.new_zeros(1)])[packed.place].sum(1)
    return list(torch.split(sums, [len(lesson.prompts) for lesson in batch]))


def train_likelihood(
    settings: TrainSettings,
    base: LanguageModel,
    tasks: Mapping[str, Task],
    listed: Sequence[Listed],
    folder: Path,
) -> Path:
    """Trains an adapter; continues an interrupted run.

    Args:
        tasks: the prompts to train on.
        folder: for checkpoints, losses and the adapter.

    Returns:
        The folder of the PEFT adapter.

    Raises:
        InputError: the model's texts cannot be packed.
    """
    adapter = folder / "adapter"
    if adapter.is_dir():
        return adapter
    from transformers import PrinterCallback, set_seed

    set_seed(settings.seed)  # LoRA weights are random, and the trainer sets the seed only later
    tokenizer = base.tokenizer()
    model = _model(settings, base)
    if reason := cannot_group(model):
        raise InputError(f"{base.name} cannot be trained by likelihood: {reason}.")
    made = lessons(tokenizer, tasks, listed, settings.contrast, settings.seed)
    trainer = _trainer(settings, base, model, made, folder)
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    losses = [(e["step"], e["loss"]) for e in trainer.state.log_history if "loss" in e]
    (folder / LOSSES).write_text(json.dumps(losses))
    with new_folder(adapter) as unfinished:
        peft_model(trainer.model).save_pretrained(str(unfinished))
    return adapter


def _model(settings: TrainSettings, base: LanguageModel) -> PeftModel:
    model: Any = base.load(quick_dtype())
    if settings.start_from is None:
        return peft_model(get_peft_model(model, lora(settings)))
    start = open_adapter(settings.start_from, base.revision).folder
    return PeftModel.from_pretrained(model, str(start), is_trainable=True)


def _trainer(
    settings: TrainSettings,
    base: LanguageModel,
    model: PeftModel,
    made: list[Lesson],
    folder: Path,
) -> Any:
    from transformers import Trainer, TrainingArguments

    pad = base.tokenizer().pad_token_id

    class LikelihoodTrainer(Trainer):
        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Tensor | int | None = None,
        ) -> Tensor:
            policy = self.accelerator.unwrap_model(model)
            batch = inputs["lessons"]
            scores = scores_of(policy, batch, pad)
            losses = [
                loss_of(own, lesson, settings.own_likelihood)
                for own, lesson in zip(scores, batch, strict=True)
            ]
            return torch.stack(losses).mean()

    rows = min(max(1, settings.micro_batch // settings.contrast), settings.warm_start_batch)
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=rows,
        gradient_accumulation_steps=max(1, settings.warm_start_batch // rows),
        num_train_epochs=settings.warm_start_epochs,
        learning_rate=settings.warm_start_learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=10,
        logging_steps=5,
        save_steps=25,
        save_total_limit=2,
        seed=settings.seed,
        max_grad_norm=1.0,
        remove_unused_columns=False,
        use_cpu=not base.on_gpu,
        report_to=["tensorboard"],
        disable_tqdm=True,
    )
    return LikelihoodTrainer(
        model=model,
        args=arguments,
        train_dataset=made,
        data_collator=lambda batch: {"lessons": batch},
        callbacks=[Progress("likelihood")],
    )
