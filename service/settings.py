"""Every setting of the service: a flag, a YAML key and a GRAPE_... variable, defined once here."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from models.common.settings import CommandSettings
from models.rewriter.vision import IMAGE_PIXELS
from models.search.options import Fusion, RewriteMode
from service.api_keys import KeyHashes
from service.monitoring.logs import LogFormat


class Settings(CommandSettings):
    """The service's settings, which `grape search` and `grape rewrite` share."""

    model_config = SettingsConfigDict(extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    api_keys: KeyHashes = Field(
        (),
        description="keys that requests must show, apart by commas, each as it is or as "
        "sha256:HEX; needed beyond loopback",
    )
    published_on: str | None = Field(
        None,
        description="in a container: the address of the host at which the port is published; "
        "decides instead of --host whether keys are needed",
    )
    prepare_demo: bool = Field(
        False, description="before serving, fetch and make what a demo language model needs"
    )
    log_format: LogFormat = Field(
        "text", description="'json' logs one object a line, and a line for every request"
    )
    log_queries: bool = Field(False, description="log what is searched for")

    index: Path | None = Field(None, description="index folder; without one the demo gallery")
    encoder: str | None = Field(
        None, description="open_clip model; without one the index's own: 'ViT-B-32', 'hf-hub:...'"
    )
    pretrained: str | None = Field(None, description="open_clip's tag of the encoder's weights")
    encoder_device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    encoder_precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="what the encoder computes in"
    )

    llm: str = Field(
        "gemma3-270m",
        description="language model: 'gemma3-270m', 'smollm2-135m-instruct', a folder, a hub name, "
        "the name at --llm-endpoint, or 'none'",
    )
    llm_endpoint: str | None = Field(
        None, description="base URL of an OpenAI-compatible server, up to /v1, instead of vLLM here"
    )
    llm_api_key: SecretStr | None = Field(None, description="bearer token for --llm-endpoint")
    llm_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="what vLLM computes in"
    )
    llm_max_len: int = Field(2048, ge=256, description="longest prompt and answer, in tokens")
    llm_max_seqs: int = Field(64, ge=1, description="most queries that vLLM rewrites at a time")
    llm_kv_cache_gib: float = Field(1.0, gt=0, description="vLLM's cache on CPU, in GiB")
    llm_gpu_memory: float = Field(0.6, gt=0, le=1, description="vLLM's share of the GPU's memory")
    llm_sees_pictures: bool = Field(
        False, description="whether the model at --llm-endpoint reads pictures; vLLM here knows"
    )
    llm_image_pixels: int = Field(
        IMAGE_PIXELS, ge=56 * 56, description="most pixels of a picture that such a model is shown"
    )
    llm_threads: int = Field(0, ge=0, description="vLLM's threads on CPU; 0 is every core")
    adapter: str = Field(
        "auto",
        description="adapter folder, made by `grape train`; 'auto' is the demo's own where demo "
        "model and demo gallery meet, 'none' is the model as it is",
    )
    adapter_registry: Path | None = Field(
        None,
        description="folder of adapter folders, which POST /admin/adapters may load while the "
        "service runs; without one there is no /admin/adapters",
    )
    max_lora_rank: int = Field(64, ge=1, description="highest rank of an adapter")

    rewrite: RewriteMode = Field("auto", description="when to rewrite, where a search does not say")
    fusion: Fusion = Field(
        "auto",
        description="what to search with, where a search does not say; auto: the rewrite, "
        "and together with it the query where it was rewritten although the encoder knows it; "
        "from a picture on, English words or the picture in turns with the rewrite",
    )
    rewrite_timeout_s: float = Field(
        10.0, gt=0, description="after this many seconds a search goes on with the original query"
    )

    rewrite_cache: int = Field(
        10_000,
        ge=0,
        description="rewrites kept in memory; the least used go first",
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis that several servers share rewrites in: redis://HOST:PORT/NUMBER"
    )
    redis_ttl_s: int = Field(
        7 * 24 * 3600, ge=1, description="seconds that a rewrite is kept in Redis"
    )

    max_query_chars: int = Field(32_000, ge=1, description="longest query")
    max_queries: int = Field(64, ge=1, description="most queries in one request")
    max_image_bytes: int = Field(20 * 2**20, ge=1, description="largest picture in a request")
    max_image_pixels: int = Field(50_000_000, ge=1, description="most pixels of such a picture")
    max_in_flight: int = Field(
        256, ge=1, description="most queries at work; one more is told to come back (429)"
    )
