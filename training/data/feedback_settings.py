"""The settings of `grape data from-feedback`."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import CliPositionalArg

from models.common.settings import CommandSettings
from models.retriever.address import Place


class FeedbackSettings(CommandSettings):
    """Which marks become rows."""

    folder: CliPositionalArg[Path] = Field(description="folder that `grape serve --feedback` wrote")
    out: Path = Field(description="file of rows to write (.jsonl); it is replaced")
    least: float = Field(
        2.0,
        gt=0,
        description="what the marks of a query and a picture must add up to: a mark counts 1, "
        "'not this one' -1, and a picture that was only opened a quarter",
    )
    index: Place | None = Field(
        None,
        description="index folder, or a collection in Milvus: pictures that it does not hold are "
        "left out, and captions become the rows' perfect English queries",
    )
    drop: str = Field(
        "training.data.personal:is_personal",
        description="MODULE:FUNCTION that is given a query and returns whether to drop it; the "
        "default finds e-mail addresses, long numbers and web addresses; 'none' keeps all",
    )
