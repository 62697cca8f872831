"""Makes a CUDA build of torchvision importable together with a CPU build of torch.

PyPI carries no CPU build of torchvision. The CUDA build refers to the operators
``torchvision::nms`` and ``torchvision::qnms`` at import time. A CPU torch does not have them, so
the import fails, and with it open_clip, transformers and vLLM. Declaring the two schemas first is
enough, because nothing in this project calls them. If torch and torchvision come from the same
build, nothing changes.

`make install` adds a line to the virtual environment that calls :func:`install` whenever Python
starts there, because vLLM imports torchvision in subprocesses too.
"""

import importlib.machinery
import importlib.metadata
import sys
from collections.abc import Sequence
from types import ModuleType

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[object] = []  # a torch Library drops its definitions when it is garbage-collected


class _DeclareBeforeImport:
    """A finder that finds nothing. Declares the operators before torchvision is imported."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name == "torchvision" and not _declared and _builds_differ():
            from torch.library import Library

            library = Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
            for schema in _SCHEMAS:
                library.define(schema)  # type: ignore[no-untyped-call]
            _declared.append(library)
        return None


def _builds_differ() -> bool:
    """Whether torch is a CPU build and torchvision is a CUDA build."""
    return importlib.metadata.version("torch").endswith("+cpu") and not importlib.metadata.version(
        "torchvision"
    ).endswith("+cpu")


def install() -> None:
    """Puts the finder first. Costs microseconds; torch is imported only with torchvision."""
    if _DeclareBeforeImport not in sys.meta_path:
        sys.meta_path.insert(0, _DeclareBeforeImport)
