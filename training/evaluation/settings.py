"""Every setting of `grape eval`."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from training.settings import RetrieverSettings


class EvalSettings(RetrieverSettings):
    """Which systems are compared, on which queries; without any, the demo's."""

    model_config = SettingsConfigDict(extra="forbid")

    data: str = Field(
        "demo",
        description="rows as for `grape train`, 'demo', or with --folder a benchmark's name; "
        "'xm3600' without a folder is fetched from the hub",
    )
    folder: Path | None = Field(
        None,
        description="folder of the benchmark's official files; without --index its pictures "
        "are indexed once, in the work folder",
    )
    encoder: str | None = Field(
        None, description="open_clip model for that index; without one the demo's own"
    )
    pretrained: str | None = Field(None, description="open_clip's tag of that encoder's weights")
    split: str = Field("test", description="split of the rows that is asked")
    languages: list[str] = Field([], description="languages that are asked; all, without any")
    limit: int | None = Field(None, ge=1, description="most queries of each language and task")
    systems: list[str] = Field(
        ["direct", "frozen", "tuned", "always", "auto", "oracle"],
        min_length=1,
        description="systems by name; `grape eval --list` says what they are",
    )
    encoders: dict[str, str] = Field(
        {},
        description="other encoders to search with directly, by a name of yours: an index's "
        "folder, or an open_clip model as MODEL or MODEL@TAG, which then indexes the same pictures",
    )
    adapter: str = Field(
        "auto", description="folder of the adapter; 'auto': the demo's own, where it fits; 'none'"
    )
    n: int = Field(4, ge=1, le=16, description="rewrites drawn by the systems that draw several")
    temperature: float = Field(1.0, gt=0, description="that they are drawn with")
    report: Path | None = Field(None, description="folder for report.html, results.json, plots")
    trec: Path | None = Field(None, description="folder for TREC qrels and run files")
    work: Path = Field(
        Path("eval.work"), description="keeps what is finished; started again it goes on there"
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
