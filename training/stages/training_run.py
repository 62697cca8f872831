"""TrainingRun: what every stage of `grape train` works with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.rewriter.tasks import Task
from training.data.rows import Row
from training.data.splits import choose
from training.rewards.scorer import Scorer
from training.settings import TrainSettings
from training.stages.language_model import LanguageModel


@dataclass(frozen=True)
class TrainingRun:
    """The inputs of a run, checked and opened."""

    settings: TrainSettings
    base: LanguageModel
    tasks: Mapping[str, Task]  # with the prompts that the adapter is trained and served on
    rows: Sequence[Row]  # of all splits
    scorer: Scorer

    def training_rows(self) -> list[Row]:
        """All rows of the split 'train', shuffled."""
        settings = self.settings
        return choose(self.rows, "train", dict.fromkeys(settings.tasks), settings.seed)

    def validation_rows(self) -> list[Row]:
        """The fixed sample that GRPO is validated on."""
        settings = self.settings
        counts = settings.of_tasks(settings.validation_queries)
        return choose(self.rows, "validation", counts, settings.seed)

    def test_rows(self) -> list[Row]:
        """The fixed sample that the finished adapter is tested on; empty if there is no test."""
        settings = self.settings
        return choose(self.rows, "test", settings.of_tasks(settings.test_queries), settings.seed)

    def samples_file(self, name: str, model: LanguageModel) -> Path:
        """The file in the work folder that keeps a model's samples."""
        settings = self.settings
        how = f"at-{settings.sample_temperature:g}"
        return settings.work_folder / f"{name}-{model.revision[:12]}-{how}.jsonl"
