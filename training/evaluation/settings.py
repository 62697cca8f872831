"""Every setting of `grape eval`."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from models.search.options import CANDIDATES, MOST_CANDIDATES, RewriteCount
from training.retriever_settings import RetrieverSettings
from training.settings import TrainSettings


class EvalSettings(RetrieverSettings):
    """Which systems are compared, on which queries; the demo's by default."""

    model_config = SettingsConfigDict(extra="forbid")

    data: str = Field(
        "demo",
        description="rows as for `grape train`, 'demo', or a benchmark's name together with "
        "--folder; 'xm3600' without a folder is fetched from the hub",
    )
    folder: Path | None = Field(
        None,
        description="folder of the benchmark's official files; without --index, its pictures are "
        "indexed once, in the work folder",
    )
    encoder: str | None = Field(
        None, description="open_clip model for that index; the demo's own by default"
    )
    pretrained: str | None = Field(None, description="open_clip tag of that encoder's weights")
    split: str = Field("test", description="split of the rows to evaluate")
    languages: list[str] = Field([], description="languages to evaluate; all by default")
    limit: int | None = Field(
        None, ge=1, description="maximum number of queries of each language and task"
    )
    systems: list[str] = Field(
        ["direct", "frozen", "tuned", "always", "auto", "oracle"],
        min_length=1,
        description="systems to compare; `grape eval --list` describes them",
    )
    encoders: dict[str, str] = Field(
        {},
        description="other encoders to search directly with, under names of your choice: the "
        "folder of an index, or an open_clip model as MODEL or MODEL@TAG, which then indexes the "
        "same pictures",
    )
    adapter: str = Field(
        "auto", description="adapter folder; 'auto': the demo's own if it fits; 'none': no adapter"
    )
    rerank_adapter: Path | None = Field(
        None,
        description="adapter folder of a reranker; by default the model that rewrites compares",
    )
    rerank_candidates: int = Field(
        CANDIDATES, ge=2, le=MOST_CANDIDATES, description="first pictures that are reranked"
    )
    cross_encoder: str | None = Field(
        None,
        description="CrossEncoder of sentence-transformers for the system 'auto+cross-encoder': a "
        "folder, or a name on the hub",
    )
    n: RewriteCount = Field(
        "auto",
        description="rewrites found by systems that find several: 'auto' as served, or 1 to 16",
    )
    temperature: float = Field(1.0, gt=0, description="temperature of systems that draw rewrites")
    report: Path | None = Field(None, description="folder for report.html, results.json and plots")
    trec: Path | None = Field(None, description="folder for TREC qrels and run files")
    work: Path = Field(
        Path("eval.work"),
        description="folder that keeps finished work; an interrupted run continues from it",
    )

    @classmethod
    def of_new_adapter(cls, settings: TrainSettings) -> "EvalSettings":
        """The test of the adapter in ``out``. Flags, variables and files are not read again."""
        shared = {name: getattr(settings, name) for name in RetrieverSettings.model_fields}
        return cls.model_construct(
            **shared,
            data=settings.data,
            systems=["direct", "frozen", "tuned"],
            adapter=str(settings.out),
            work=settings.work_folder / "test",
        )

    @field_validator("systems")
    @classmethod
    def _known_systems(cls, value: list[str]) -> list[str]:
        from difflib import get_close_matches

        from training.evaluation.systems import SYSTEMS

        for name in value:
            if name not in SYSTEMS:
                close = get_close_matches(name, SYSTEMS, 1) or [", ".join(SYSTEMS)]
                raise ValueError(f"there is no system {name!r}; did you mean {close[0]}")
        return list(dict.fromkeys(value))
