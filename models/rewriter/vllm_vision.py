"""Images in vLLM's prompts: whether the model takes them, and how they are passed."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from models.rewriter.tasks import GROUP
from models.rewriter.vision import messages, picture_to_show, rating_messages

if TYPE_CHECKING:
    from PIL import Image
    from vllm.v1.engine.async_llm import AsyncLLM

# Engine settings for a vision model. They do not affect other models.
ENGINE_SETTINGS: dict[str, Any] = {
    "limit_mm_per_prompt": {"image": GROUP, "video": 0, "audio": 0},
    # The cache takes an image as known to the engine once it was processed here. If a request is
    # cancelled in between, the engine does not know it, and the next request with it would fail.
    "mm_processor_cache_gb": 0,
}


def takes_pictures(engine: "AsyncLLM") -> bool:
    """Whether the model has a vision tower and a chat template."""
    from vllm.entrypoints.chat_utils import ChatTemplateResolutionError
    from vllm.renderers import ChatParams

    renderer = engine.renderer
    if not engine.model_config.is_multimodal_model:
        return False
    if "image" not in renderer.get_mm_processor().info.supported_mm_limits:
        return False
    try:
        renderer.render_chat([[{"role": "user", "content": "x"}]], ChatParams())
    except ChatTemplateResolutionError:
        return False
    return True


async def picture_prompt(engine: "AsyncLLM", query: str, picture: bytes, max_pixels: int) -> Any:
    """The engine's input: a chat about the image, in the model's own template.

    Raises:
        PictureError: the image cannot be decoded.
        ValueError, VLLMClientError: rejected by the model's processor, or too long.
    """
    image = await asyncio.to_thread(picture_to_show, picture, max_pixels)
    return await _rendered(engine, messages(_part(image), query))


async def candidates_prompt(
    engine: "AsyncLLM", query: str, pictures: Sequence[bytes], max_pixels: int
) -> Any:
    """The same for images that are to be rated; for its errors see :func:`picture_prompt`.

    Args:
        max_pixels: of all images together.
    """
    each = max_pixels // len(pictures)
    images = [await asyncio.to_thread(picture_to_show, picture, each) for picture in pictures]
    return await _rendered(engine, rating_messages([_part(image) for image in images], query))


def _part(image: "Image.Image") -> dict[str, Any]:
    return {"type": "image_pil", "image_pil": image}


async def _rendered(engine: "AsyncLLM", chat: list[Any]) -> Any:
    from vllm.renderers import ChatParams

    parameters = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
    _, (prompt,) = await engine.renderer.render_chat_async([chat], parameters)
    return prompt
