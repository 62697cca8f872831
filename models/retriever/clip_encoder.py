"""ClipEncoder: a frozen open_clip model that turns texts and images into unit vectors."""

import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import open_clip
import regex
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import QuickGELU, TextTransformer
from PIL import Image
from torch import Tensor
from torch.nn import functional

from models.common.errors import InputError
from models.retriever.encoder_files import LOCAL, create, find_encoder
from models.retriever.manifest import EncoderFingerprint
from models.retriever.types import TextLength, Vectors

Precision = Literal["fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_TOKENIZER_CACHE = 100_000  # words
_LONG_RUN = regex.compile(r"(\p{L}{200})(?=\p{L})")
_TEXTS_KEPT = 4096  # texts in the cache of token ids
_SHORT = 400  # characters; longer texts are not cached
_SMALL_TOWER = 2_000_000  # weights
_DRAWN = 512  # pixels of an SVG, which is not scaled down again
_TOKENIZER_PROBE = "Probe: 1 photo of a CAFÉ, 中文 🙂"


class ClipEncoder:
    """Any open_clip model, frozen.

    Args:
        name: an open_clip model (``ViT-B-32``), ``hf-hub:org/repo`` or ``local-dir:/folder``.
        pretrained: open_clip's tag of the weights, for a plain model name. A tag and a repository
            may end in ``@REVISION``.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        precision: dtype of the matrix products. Vectors are always float32.

    Raises:
        InputError: the model or its weights are not available.
    """

    def __init__(
        self,
        name: str,
        pretrained: str | None = None,
        device: str = "cpu",
        precision: Precision = "fp32",
    ) -> None:
        if ":" not in name and not pretrained:
            raise InputError(
                f"The encoder {name!r} needs --pretrained, the tag of its weights: without them it "
                "is random and finds nothing. open_clip.list_pretrained() lists the tags."
            )
        loaded, revision = _load(name, pretrained)
        self._model, self._preprocess, self._tokenizer = loaded
        if isinstance(self._tokenizer, SimpleTokenizer):
            self._tokenizer.encode = _remembering(self._tokenizer.encode)
        else:  # truncation is a setting of the tokenizer, and counting needs another one
            self._counter = copy.deepcopy(self._tokenizer.tokenizer)
        self._model.eval().requires_grad_(False)
        self._model.output_dict = True
        self._device = torch.device(device)
        self._dtype = _DTYPES[precision]
        weights_sha256 = _weights_hash(self._model)
        self._model.to(self._device)
        self._shortened: dict[int, Any] = {}  # by the number of positions that they compute
        self.context_length = int(self._tokenizer.context_length)
        self.dim = self._encode_text_batch(["a"]).shape[1]
        self.temperature = 1 / float(self._model.logit_scale.exp())
        side = open_clip.get_model_preprocess_cfg(self._model)["size"]
        self.enough_pixels = max(_DRAWN, 2 * (side if isinstance(side, int) else max(side)))
        self.fingerprint = EncoderFingerprint(
            name=_without_revision(name),
            pretrained=_without_revision(pretrained),
            weights_sha256=weights_sha256,
            preprocess_sha256=_sha256(str(self._preprocess)),
            tokenizer_sha256=_sha256(f"{self._tokenizer(_TOKENIZER_PROBE).tolist()}"),
            dim=self.dim,
            revision=revision,
            quick_gelu=any(isinstance(part, QuickGELU) for part in self._model.modules()),
        )

    def text_length(self, text: str) -> TextLength:
        """Counts the encoder's own tokens of one text."""
        return TextLength(len(self._token_ids(text)), self.context_length)

    def set_text_threads(self) -> None:
        """Gives the calling thread as many CPU threads as speed up encoding a text.

        A small tower finishes before a second thread has started. Two threads took 1.6 times as
        long for 8 texts with the demo's 0.6 M weights, but two thirds of the time with 8 M.
        """
        tower = getattr(self._model, "text", self._model)
        weights = sum(weight.numel() for weight in tower.transformer.parameters())
        if self._device.type == "cpu" and weights < _SMALL_TOWER:
            torch.set_num_threads(1)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 256) -> Vectors:
        """Unit vectors of texts: float32 ``[len(texts), dim]``, in the same order."""
        self._assert_frozen()
        return self._stack(
            self._encode_text_batch(texts[start : start + batch_size])
            for start in range(0, len(texts), batch_size)
        )

    def encode_images(self, images: Iterable[Image.Image], batch_size: int = 64) -> Vectors:
        """Unit vectors of RGB images: float32 ``[n, dim]``, in the same order."""
        self._assert_frozen()
        batches = map(self._pixels, _batches(images, batch_size))
        if isinstance(images, Sequence) and len(images) <= batch_size:
            return self._stack(map(self._encode_image_batch, batches))
        return self._stack(map(self._encode_image_batch, _one_ahead(batches)))

    @torch.inference_mode()
    def _encode_text_batch(self, texts: Sequence[str]) -> Tensor:
        if isinstance(self._tokenizer, SimpleTokenizer):
            texts = [_split_long_runs(text) for text in texts]
            if len(self._tokenizer.cache) > _TOKENIZER_CACHE:  # open_clip never limits it
                self._tokenizer.cache.clear()
        tokens: Tensor = self._tokenizer(list(texts))
        with self._autocast():
            features = self._text_features(tokens.to(self._device))
        return functional.normalize(features.float(), dim=-1)

    def _pixels(self, images: list[Image.Image]) -> Tensor:
        return torch.stack([self._preprocess(image) for image in images])

    @torch.inference_mode()
    def _encode_image_batch(self, pixels: Tensor) -> Tensor:
        with self._autocast():
            features = self._model.encode_image(pixels.to(self._device))
        return functional.normalize(features.float(), dim=-1)

    def _text_features(self, tokens: Tensor) -> Tensor:
        """Runs the text tower on the used positions only, if that changes nothing.

        CLIP's tower is causal and reads its output at the end mark, which has the highest token id.
        The padding after it has no influence. A 10-token query then costs an eighth of the 77
        positions that open_clip computes.
        """
        used = int(tokens.argmax(dim=1).max()) + 1
        text_tower = getattr(self._model, "text", None)
        model = self._model
        if text_tower is None and model.text_pool_type == "argmax":
            if used not in self._shortened:
                self._shortened[used] = _shortened(model, used)
            model = self._shortened[used]
            tokens = tokens[:, :used]
        elif _reads_at_end_mark(text_tower):
            tokens = tokens[:, :used]
        features: Tensor = model.encode_text(tokens)
        return features

    def _token_ids(self, text: str) -> list[int]:
        """All tokens of a text with both marks, nothing cut."""
        if isinstance(self._tokenizer, SimpleTokenizer):
            inner = self._tokenizer.encode(_split_long_runs(text))
            return [self._tokenizer.sot_token_id, *inner, self._tokenizer.eot_token_id]
        # HFTokenizer and SigLipTokenizer clean the text, then call a transformers tokenizer.
        ids: list[int] = self._counter(self._tokenizer.clean_fn(text)).input_ids
        return ids

    def _assert_frozen(self) -> None:
        """Train mode changes BatchNorm and dropout, and thus every vector."""
        assert not self._model.training, "the encoder must stay in eval mode"

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def _stack(self, batches: Iterable[Tensor]) -> Vectors:
        parts = [batch.cpu().numpy() for batch in batches]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float32)


def _load(name: str, pretrained: str | None) -> tuple[tuple[Any, Any, Any], str | None]:
    """Model, preprocessing and tokenizer, on the CPU; and the commit on the hub."""
    files = find_encoder(name, pretrained)
    try:
        return create(files), files.commit
    except (RuntimeError, ValueError, OSError, TypeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"The encoder {name!r} ({pretrained or 'own weights'}) cannot be loaded: {reason}"
        ) from error


def _remembering(encode: Callable[[str], list[int]]) -> Callable[[str], list[int]]:
    """Caches token ids: a query is counted, encoded, and often searched again."""
    kept = lru_cache(_TEXTS_KEPT)(encode)
    return lambda text: kept(text) if len(text) < _SHORT else encode(text)


def _split_long_runs(text: str) -> str:
    """Breaks runs of more than 200 letters, which no word has.

    open_clip's tokenizer takes quadratic time for a run: minutes for a page of Chinese. Letters
    after the 200th are over CLIP's limit anyway, unless the run is Latin gibberish.
    """
    broken: str = _LONG_RUN.sub(r"\1 ", text)
    return broken


def _shortened(model: Any, used: int) -> Any:
    """The same model with the same weights, limited to the first ``used`` positions of a text.

    A shallow copy, because swapping the two tensors per call (``torch.func.functional_call``)
    visits all weights of the model, which takes longer than a small tower computes.
    """
    short = copy.copy(model)
    short._parameters = dict(model._parameters)
    short._buffers = dict(model._buffers)
    positions = model.positional_embedding[:used]
    short._parameters["positional_embedding"] = torch.nn.Parameter(positions, requires_grad=False)
    short._buffers["attn_mask"] = model.attn_mask[:used, :used]
    return short


def _reads_at_end_mark(text_tower: object) -> bool:
    """Whether nothing after the end mark influences the vector of a text."""
    return (
        isinstance(text_tower, TextTransformer)
        and text_tower.attn_mask is not None
        and text_tower.pool_type == "argmax"
        and text_tower.cls_emb is None
    )


def _batches(items: Iterable[Image.Image], size: int) -> Iterator[list[Image.Image]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _one_ahead(batches: Iterator[Tensor]) -> Iterator[Tensor]:
    """The same, each made in a thread while the one before it is used.

    Pictures are read and scaled for almost as long as a small encoder computes.
    """
    with ThreadPoolExecutor(1, "pictures") as reader:
        coming = reader.submit(next, batches, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, batches, None)
            yield batch


def _without_revision(name: Any) -> Any:
    """The name of a repository or a tag; a folder's and a file's stay as they are."""
    is_path = not name or name.startswith(LOCAL) or Path(name).exists()
    return name if is_path else name.partition("@")[0]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _weights_hash(model: torch.nn.Module) -> str:
    """Over names and float32 values, so that the same weights in another file match."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()
