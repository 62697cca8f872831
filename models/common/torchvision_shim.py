"""Makes a CUDA-built torchvision importable beside a CPU torch.

PyPI carries no CPU build of torchvision. Its CUDA build names the operators ``torchvision::nms``
and ``torchvision::qnms`` while it is imported, and beside a CPU torch they do not exist, so the
import fails, and with it open_clip, transformers and vLLM. Declaring the two schemas first is
enough: nobody in this project calls them. Where torchvision and torch are of one build, nothing is
touched.

`make install` puts one line into the virtual environment that calls :func:`install` whenever Python
starts there, because vLLM imports torchvision in subprocesses of its own.
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
_declared: list[object] = []  # a torch Library undoes its definitions when it is collected


class _DeclareBeforeImport:
    """A finder that finds nothing: it sees `import torchvision` first and declares the
    operators.
    """

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
    """Whether torch is a CPU build and torchvision is not."""
    return importlib.metadata.version("torch").endswith("+cpu") and not importlib.metadata.version(
        "torchvision"
    ).endswith("+cpu")


def install() -> None:
    """Puts the finder first in line. Costs microseconds; torch is imported only with
    torchvision.
    """
    if _DeclareBeforeImport not in sys.meta_path:
        sys.meta_path.insert(0, _DeclareBeforeImport)
