"""Both towers of an open_clip model as ONNX files, the way rclip names them.

    python -m benchmarks.peers.onnx_format ENCODER FOLDER

A process of its own, because torch writes ONNX only with a package that GRAPE does not need.
"""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn

OPSET = 17


class Tower(nn.Module):
    """One of the two as a module."""

    def __init__(self, model: nn.Module, encode: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.encode = model, encode

    def forward(self, batch: Tensor) -> Tensor:
        return self.encode(batch)


def main(encoder: str, folder: Path) -> None:
    """Writes visual.onnx and textual.onnx, for any size of a batch."""
    model = open_clip.create_model(f"local-dir:{encoder}").eval()
    torch.backends.mha.set_fastpath_enabled(False)  # its operator has no form in ONNX
    side = open_clip.get_model_preprocess_cfg(model)["size"]
    height, width = (side, side) if isinstance(side, int) else side
    inputs = {
        "visual": (model.encode_image, torch.zeros(2, 3, height, width)),
        "textual": (model.encode_text, torch.zeros(2, model.context_length, dtype=torch.long)),
    }
    for name, (encode, example) in inputs.items():
        torch.onnx.export(
            Tower(model, encode), (example,), folder / f"{name}.onnx", dynamo=False,
            opset_version=OPSET, input_names=["input"], output_names=["output"],
            dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
        )  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], Path(sys.argv[2]))
