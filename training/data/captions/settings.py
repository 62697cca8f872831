"""The settings of `grape data from-captions`."""

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from training.retriever_settings import RetrieverSettings


class CaptionSettings(RetrieverSettings):
    """Which model writes about which captions, how much, and what of it is kept."""

    out: Path = Field(
        description="file of rows to write (.jsonl); it is replaced, and its card is beside it "
        "(.md)"
    )
    languages: list[str] = Field(
        min_length=1,
        description="comma-separated languages that people type in, by their ISO 639-1 codes",
    )
    llm_endpoint: str | None = Field(
        None,
        description="base URL of an OpenAI-compatible server, up to /v1, that offers --llm; "
        "without one, vLLM runs it in this process",
    )
    llm_api_key: SecretStr | None = Field(None, description="bearer token for --llm-endpoint")
    at_once: int = Field(
        128,
        ge=1,
        description="prompts that the model has at a time; fewer for a server that limits rates",
    )
    field: str | None = Field(
        None,
        description="key of the pictures' metadata that holds their captions; by default caption, "
        "name, title or description",
    )
    see: bool = Field(
        False,
        description="have the model look at pictures without a caption and write one; it must read "
        "images",
    )
    limit: int | None = Field(
        None, ge=1, description="pictures to write about, drawn at random; all by default"
    )
    names: int = Field(
        2, ge=0, le=16, description="short queries for each caption in each language, at most"
    )
    descriptions: int = Field(
        1,
        ge=0,
        le=16,
        description="long descriptions for each caption: the first in English, the others in the "
        "languages in turn",
    )
    changes: int = Field(
        1,
        ge=0,
        le=16,
        description="changes that lead from near pictures to each picture, in English and the "
        "languages in turn",
    )
    temperature: float = Field(
        0.7, ge=0, le=2, description="temperature of the writing; 0 takes the most probable answers"
    )
    rewrites: int = Field(
        4,
        ge=1,
        le=16,
        description="rewrites of a written query that the model is asked for; the best one decides "
        "whether the query is kept",
    )
    worst_rank: int = Field(
        10,
        ge=1,
        description="worst rank of the picture for that rewrite, and for its caption; in a "
        "small index at most a twentieth of it",
    )
    work: Path | None = Field(
        None,
        description="file that keeps every answer of the model, so that an interrupted command "
        "continues; OUT with the ending .work.jsonl by default",
    )

    @field_validator("out")
    @classmethod
    def _jsonl(cls, value: Path) -> Path:
        if value.suffix != ".jsonl":
            raise ValueError("the name of the file must end in .jsonl")
        return value

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, value: list[str]) -> list[str]:
        from training.data.captions.languages import name_of

        for code in value:
            if name_of(code) is None:
                raise ValueError(f"{code!r} is no ISO 639-1 code, such as de, fr or zh")
        return list(dict.fromkeys(value))

    @property
    def work_file(self) -> Path:
        """The file of the model's answers."""
        return self.work or self.out.with_suffix(".work.jsonl")
