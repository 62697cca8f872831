"""Every setting of the service, defined once. Each is a flag, a YAML key and a GRAPE_ variable."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from models.common.settings import CommandSettings
from models.retriever.address import Place
from models.rewriter.chat import PromptStyle
from models.rewriter.vision import IMAGE_PIXELS
from models.search.options import Fusion, RewriteCount, RewriteMode
from service.api_keys import ApiKeys
from service.monitoring.logs import LogFormat
from service.origins import HostNames, Origins


class Settings(CommandSettings):
    """The settings of the service, which `grape search` and `grape rewrite` share."""

    model_config = SettingsConfigDict(extra="forbid")

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 picks a free one")
    api_keys: ApiKeys = Field(
        (),
        description="comma-separated API keys, each KEY or NAME:SCOPE:KEY; KEY is plain text or "
        "sha256:HEX, SCOPE is search (the default) or admin; required beyond loopback",
    )
    allowed_hosts: HostNames = Field(
        (),
        description="comma-separated host names to answer to besides localhost if there are no "
        "API keys",
    )
    cors_origins: Origins = Field(
        (),
        description="comma-separated origins whose web pages may call the API, such as "
        "https://photos.example",
    )
    published_on: str | None = Field(
        None,
        description="in a container: the host address on which the port is published; decides "
        "whether keys are required, instead of --host",
    )
    prepare_demo: bool = Field(
        False,
        description="before serving, prepare a demo language model (see `grape demo prepare`)",
    )
    log_format: LogFormat = Field(
        "text", description="'json' logs one JSON object per line, including one per request"
    )
    log_queries: bool = Field(False, description="log the queries")

    index: Place | None = Field(
        None,
        description="index folder, or a collection as milvus://HOST:PORT/COLLECTION; defaults to "
        "the demo gallery",
    )
    pictures: Path | None = Field(
        None, description="folder of the pictures, if it has moved since the index was built"
    )
    encoder: str | None = Field(
        None,
        description="open_clip model ('ViT-B-32', 'hf-hub:...' or with @REVISION); defaults to the "
        "index's own",
    )
    pretrained: str | None = Field(
        None, description="open_clip's tag of the encoder's weights (or with @REVISION)"
    )
    encoder_device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    encoder_precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="the encoder's floating-point type"
    )

    llm: str = Field(
        "gemma3-270m",
        description="language model: 'gemma3-270m', 'smollm2-135m-instruct', a folder, a name on "
        "the hub (or with @REVISION), the model's name at --llm-endpoint, or 'none'",
    )
    prompt_style: PromptStyle = Field(
        "auto",
        description="how the model is asked: 'plain' text that it continues, or a 'chat' in its "
        "own template; 'auto' is chat if the model has a template, and plain at an endpoint that "
        "takes it. An adapter is asked as it was trained",
    )
    llm_endpoint: str | None = Field(
        None,
        description="base URL of an OpenAI-compatible server, up to /v1, to use instead of vLLM "
        "in this process",
    )
    llm_api_key: SecretStr | None = Field(None, description="bearer token for --llm-endpoint")
    llm_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="vLLM's floating-point type"
    )
    llm_max_len: int = Field(
        2048, ge=256, description="maximum length of prompt and answer together, in tokens"
    )
    llm_max_seqs: int = Field(
        64, ge=1, description="maximum number of rewrites that vLLM writes at once"
    )
    llm_kv_cache_gib: float = Field(
        1.0, gt=0, description="size of vLLM's key-value cache on CPU, in GiB"
    )
    llm_gpu_memory: float = Field(
        0.6, gt=0, le=1, description="fraction of the GPU's memory that vLLM may use"
    )
    llm_sees_pictures: bool = Field(
        False,
        description="whether the model at --llm-endpoint reads pictures; detected for a model in "
        "vLLM",
    )
    llm_image_pixels: int = Field(
        IMAGE_PIXELS,
        ge=56 * 56,
        description="maximum number of pixels of a picture shown to such a model",
    )
    llm_threads: int = Field(0, ge=0, description="vLLM's threads on CPU; 0 uses every core")
    adapter: str = Field(
        "auto",
        description="adapter folder made by `grape train`; 'auto' is the demo's own adapter if "
        "both model and gallery are the demo's, 'none' is the base model",
    )
    adapter_registry: Path | None = Field(
        None,
        description="folder of adapter folders that POST /admin/adapters may load while the "
        "server runs; without one, /admin/adapters does not exist",
    )
    rerank_adapter: Path | None = Field(
        None,
        description="adapter folder of a reranker made by `grape train`; without one, the model "
        "that rewrites compares the hits too. On a CPU it is a second engine",
    )
    max_lora_rank: int = Field(64, ge=1, description="maximum rank of an adapter")

    rewrite: RewriteMode = Field(
        "auto", description="when to rewrite, unless a request says otherwise"
    )
    fusion: Fusion = Field(
        "auto",
        description="how query and rewrites are combined, unless a request says otherwise. "
        "'auto' is the mixture: each rewrite counts as much as it is probable",
    )
    n: RewriteCount = Field(
        "auto",
        description="rewrites that a query is searched with, unless a request says otherwise; "
        "'auto': one if the model is sure, up to 16 if it is not, fewer under load",
    )
    rewrite_timeout_s: float = Field(
        10.0,
        gt=0,
        description="seconds after which a search continues with the original query, and its hits "
        "keep their order if they were to be reranked",
    )
    rerank_field: str | None = Field(
        None,
        description="key of the pictures' metadata that says what a picture shows, for "
        "reranking; by default its caption, name, title, description or text",
    )

    rerank_passes: int = Field(
        1,
        ge=1,
        le=8,
        description="how often `rerank_by: group` rates each hit, in another group each time",
    )

    feedback: Path | None = Field(
        None,
        description="folder that POST /feedback appends to, with the queries that people typed; "
        "without one, nothing is kept and the route does not exist",
    )

    rewrite_cache: int = Field(
        10_000,
        ge=0,
        description="number of queries whose rewrites are kept in memory; the least recently used "
        "are dropped",
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis for sharing rewrites among servers: redis://HOST:PORT/NUMBER"
    )
    redis_ttl_s: int = Field(7 * 24 * 3600, ge=1, description="seconds that Redis keeps a rewrite")

    max_query_chars: int = Field(32_000, ge=1, description="maximum characters of a query")
    max_queries: int = Field(64, ge=1, description="maximum queries in one request")
    max_image_bytes: int = Field(
        20 * 2**20, ge=1, description="maximum bytes of a picture in a request"
    )
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="maximum pixels of a picture in a request"
    )
    max_bodies_bytes: int = Field(
        256 * 2**20,
        ge=1,
        description="maximum bytes of all requests in memory at a time; at least one request is "
        "always accepted",
    )
    max_in_flight: int = Field(
        256,
        ge=1,
        description="maximum rewrites in flight, where a query with n 8 counts 8, with 'auto' 1; "
        "the server answers 429 to more",
    )
