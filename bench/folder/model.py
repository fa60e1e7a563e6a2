"""Makes an ONNX file of the image tower, and what fastembed wants beside it, out of a CLIP in transformers' layout.

    python bench/folder/model.py MODEL DIRECTORY
"""

import json
import sys
from pathlib import Path

import torch
from transformers import CLIPModel


class ImageTower(torch.nn.Module):
    """From pixel values to the vector of the shared space."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.clip.visual_projection(self.clip.vision_model(pixel_values=pixels).pooler_output)


def main() -> None:
    model, directory = map(Path, sys.argv[1:])
    clip = CLIPModel.from_pretrained(model, attn_implementation="sdpa").eval()
    size = clip.config.vision_config.image_size
    directory.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        ImageTower(clip),
        (torch.randn(2, 3, size, size),),
        directory / "model.onnx",
        input_names=["input"],
        output_names=["output"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
    )
    # fastembed reads sizes in the newer of two notations only.
    config = json.loads((model / "preprocessor_config.json").read_text())
    config |= {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    (directory / "preprocessor_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    main()
