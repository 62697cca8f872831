"""TrainingRun: what every stage of `grape train` works with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from models.rewriter.chat import ChatTemplate
from models.rewriter.tasks import TASKS, Task, in_style
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
    grpo_data: Mapping[str, Sequence[Row]] = field(default_factory=dict)  # rows by data set
    rerank_data: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    chat: ChatTemplate | None = None  # of the prompts; plain completion without one

    @property
    def with_examples(self) -> dict[str, Task]:
        """The prompts that the frozen model is asked with."""
        return in_style(TASKS, self.chat)

    def all_rows(self) -> list[Row]:
        """Rows of all data sets and splits."""
        others = [*self.grpo_data.values(), *self.rerank_data.values()]
        return [*self.rows, *(row for rows in others for row in rows)]

    def validation_rows(self) -> list[Row]:
        """A fixed sample of ``data``."""
        return self._validation_rows(self.rows)

    def grpo_rows(self) -> dict[str, list[Row]]:
        """All training rows that GRPO learns from, by data set."""
        every: dict[str, int | None] = dict.fromkeys(self.settings.tasks)
        return {
            name: choose(rows, "train", every, self.settings.seed)
            for name, rows in self._learnt_from().items()
        }

    def grpo_validation_rows(self) -> list[Row]:
        """The fixed sample that GRPO is validated on: as many rows of each of its data sets."""
        return [r for rows in self._learnt_from().values() for r in self._validation_rows(rows)]

    def _learnt_from(self) -> Mapping[str, Sequence[Row]]:
        return self.grpo_data or {self.settings.data: self.rows}

    def _validation_rows(self, rows: Sequence[Row]) -> list[Row]:
        settings = self.settings
        counts = settings.of_tasks(settings.validation_queries)
        return choose(rows, "validation", counts, settings.seed)

    def test_rows(self) -> list[Row]:
        """The fixed sample that the finished adapter is tested on; empty if there is no test."""
        settings = self.settings
        return choose(self.rows, "test", settings.of_tasks(settings.test_queries), settings.seed)

    def samples_file(self, name: str, model: LanguageModel) -> Path:
        """The file in the work folder that keeps a model's samples."""
        settings = self.settings
        how = f"at-{settings.sample_temperature:g}"
        return settings.work_folder / f"{name}-{model.revision[:12]}-{how}.jsonl"
