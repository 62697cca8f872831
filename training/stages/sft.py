"""Supervised fine-tuning: the model learns to write chosen answers to its prompts."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peft import PeftModel

from models.common.files import new_folder
from models.rewriter.adapter import open_adapter
from training.settings import TrainSettings
from training.stages.checkpoints import last_checkpoint
from training.stages.language_model import LanguageModel, Tokenizer, lora, peft_model
from training.stages.monitor import Progress

LOSSES = "losses.json"  # [step, mean negative log-likelihood of the answers' tokens]


def fine_tune(
    settings: TrainSettings,
    base: LanguageModel,
    texts: Sequence[tuple[str, str]],
    folder: Path,
) -> Path:
    """Trains an adapter on prompts and their answers; continues an interrupted run.

    Args:
        texts: each prompt with its answer as :meth:`Task.written` gives it.
        folder: for checkpoints, losses and the adapter.

    Returns:
        The folder of the PEFT adapter.
    """
    adapter = folder / "adapter"
    if adapter.is_dir():
        return adapter
    from transformers import set_seed

    set_seed(settings.seed)  # LoRA weights are random, and the trainer sets the seed only later
    trainer = _trainer(settings, base, texts, folder)
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    history = trainer.state.log_history
    losses = [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]
    (folder / LOSSES).write_text(json.dumps(losses))
    with new_folder(adapter) as unfinished:
        peft_model(trainer.model).save_pretrained(str(unfinished))
    return adapter


def _trainer(
    settings: TrainSettings,
    base: LanguageModel,
    texts: Sequence[tuple[str, str]],
    folder: Path,
) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import SFTTrainer

    from training.stages.answers_only import AnswersOnlyTrainer

    tokenizer = base.tokenizer()
    trainer_class = SFTTrainer if base.on_gpu else AnswersOnlyTrainer
    trainer = trainer_class(
        model=_model(settings, base),
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([_tokenised(tokenizer, *both) for both in texts]),
        peft_config=None if settings.start_from else lora(settings),
        args=_config(settings, base, folder),
        callbacks=[Progress("warm start")],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _model(settings: TrainSettings, base: LanguageModel) -> Any:
    """The base model, with the adapter of ``start_from`` if there is one."""
    model = base.load()
    if settings.start_from is None:
        return model
    adapter = open_adapter(settings.start_from, base.revision)
    return PeftModel.from_pretrained(model, str(adapter.folder), is_trainable=True)


def _config(settings: TrainSettings, base: LanguageModel, folder: Path) -> Any:
    """TRL's SFTConfig."""
    from trl import SFTConfig

    micro_batch = min(settings.micro_batch, settings.warm_start_batch)
    return SFTConfig(
        output_dir=str(folder),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=max(1, settings.warm_start_batch // micro_batch),
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
    )


def _tokenised(tokenizer: Tokenizer, prompt: str, answer: str) -> dict[str, list[int]]:
    """Prompt and answer, joined as in serving; what ends the answer is learnt too."""
    asked = tokenizer.encode(prompt)
    written = tokenizer.encode(answer, add_special_tokens=False)
    return {
        "input_ids": asked + written,
        "completion_mask": [0] * len(asked) + [1] * len(written),
    }
