"""The settings of the frozen retriever and the base model."""

from typing import Literal

from pydantic import Field

from models.common.settings import CommandSettings
from models.retriever.address import Place
from models.rewriter.chat import PromptStyle


class RetrieverSettings(CommandSettings):
    """The frozen retriever and the base model, which training and evaluation share."""

    index: Place | None = Field(
        None,
        description="index folder, or a collection as milvus://HOST:PORT/COLLECTION; the demo "
        "gallery by default",
    )
    encoder_device: str = Field("cpu", description="device of the encoder: cpu, cuda, cuda:1, ...")
    encoder_precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="precision of the encoder"
    )
    llm: str = Field(
        "gemma3-270m",
        description="base model: a demo model's name, a folder, or a name on the hub (or with "
        "@REVISION)",
    )
    prompt_style: PromptStyle = Field(
        "auto",
        description="how the base model is asked: 'plain' text that it continues, or a 'chat' in "
        "its own template; 'auto' is chat if it has one. An adapter is served as it was trained",
    )
    seed: int = Field(0, ge=0, description="random seed of data order, sampling and weights")
    exact_up_to: int = Field(
        1_000_000,
        ge=1,
        description="number of pictures above which ranks are estimated from a pool of pictures",
    )
    pool_hard: int = Field(1000, ge=1, description="nearest neighbours of a target in the pool")
    pool_random: int = Field(20_000, ge=1, description="random pictures in the pool")
