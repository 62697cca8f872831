"""The commands of the `grape` program that train and evaluate."""

from pydantic import Field

from models.common.findings import tell
from models.common.settings import PlanSettings
from training.data.captions.settings import CaptionSettings
from training.data.feedback_settings import FeedbackSettings
from training.evaluation.settings import EvalSettings
from training.settings import TrainSettings


class Train(PlanSettings, TrainSettings):
    """Trains a rewriter by the rank of the right picture, and writes an adapter folder."""

    def cli_cmd(self) -> None:
        if self.plan:
            from training.plan import plan_of_training

            tell(plan_of_training(self), self.plan_as_json)
            return
        from training.pipeline import train

        train(self)


class DataFromCaptions(CaptionSettings):
    """Has a language model write, for an index's captions, training rows of what people type."""

    def cli_cmd(self) -> None:
        from training.data.from_captions import from_captions

        print(from_captions(self))


class DataFromFeedback(FeedbackSettings):
    """Makes training rows of what people marked in a folder of `grape serve --feedback`."""

    def cli_cmd(self) -> None:
        from training.data.from_feedback import from_feedback

        print(from_feedback(self))


class Eval(EvalSettings):
    """Compares systems on one set of queries, with intervals and tests. Finished work is kept."""

    list: bool = Field(False, description="list the systems and exit")
    fit_gate: bool = Field(
        False,
        description="fit the gate of `rewrite: auto` on the split 'validation', and save it in the "
        "adapter folder",
    )

    fit_mixture: bool = Field(
        False,
        description="fit tau and the weights of the mixture on the split 'validation', and save "
        "them in the adapter folder, or in the index's",
    )

    fit_rerank: bool = Field(
        False,
        description="fit the weight of a reranker's score on the split 'validation', and save it "
        "with the mixture",
    )

    def cli_cmd(self) -> None:
        from training.evaluation.systems import SYSTEMS

        if self.list:
            print("\n".join(f"{name:21} {spec.about}" for name, spec in SYSTEMS.items()))
            return
        if self.fit_gate:
            from training.evaluation.gate_fit import fit_gate

            print(fit_gate(self))
            return
        if self.fit_mixture:
            from training.evaluation.mixture_fit import fit_mixture

            print(fit_mixture(self))
            return
        if self.fit_rerank:
            from training.evaluation.rerank_fit import fit_rerank

            print(fit_rerank(self))
            return
        from training.evaluation.report.tables import as_text
        from training.evaluation.run import evaluate

        results = evaluate(self)
        print(as_text(results))
        if self.report:
            from training.evaluation.report.page import write_report

            write_report(results, self.report)
            print(f"The report is {self.report / 'report.html'}.")
