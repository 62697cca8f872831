"""A picture in a prompt of vLLM's: whether the model takes one, and how it is put there."""

import asyncio
from typing import TYPE_CHECKING, Any

from models.rewriter.vision import messages, picture_to_show

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

# Settings of the engine for a model that sees; others have no use for them.
ENGINE_SETTINGS: dict[str, Any] = {
    "limit_mm_per_prompt": {"image": 1, "video": 0, "audio": 0},
    # With the cache a picture counts as known to the engine once it was prepared here. After a
    # request that was cancelled in between it is not, and the next one with it would be refused.
    "mm_processor_cache_gb": 0,
}


def takes_pictures(engine: "AsyncLLM") -> bool:
    """By the model's own configuration: a tower for pictures and a template to ask with."""
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
    """What the engine is given: a chat about the picture, in the model's own template.

    Raises:
        PictureError: the picture cannot be decoded.
        ValueError, VLLMClientError: the model's processor or length does not allow it.
    """
    from vllm.renderers import ChatParams

    image = await asyncio.to_thread(picture_to_show, picture, max_pixels)
    chat: list[Any] = messages({"type": "image_pil", "image_pil": image}, query)
    parameters = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
    _, (prompt,) = await engine.renderer.render_chat_async([chat], parameters)
    return prompt
