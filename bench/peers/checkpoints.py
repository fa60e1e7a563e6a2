"""Writes a checkpoint of the size of a published model, with pseudo-random weights: speed does not ask for more.

  checkpoints.py NAME DIR

NAME is clip-vit-base-patch32 or clip-vit-large-patch14-336 (transformers' layout), or clip-rn50 (open_clip's). DIR appears
whole or not at all.
"""

import json
import pathlib
import shutil
import sys

import torch

# Width and layers of the image tower, patch, pixels, width of the text tower, width of the joint space.
TRANSFORMERS = {
    "clip-vit-base-patch32": (768, 12, 32, 224, 512, 512),
    "clip-vit-large-patch14-336": (1024, 24, 14, 336, 768, 768),
}
OPEN_CLIP = {"clip-rn50": "RN50-quickgelu"}


def write_transformers(name, directory):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    width, layers, patch, side, text_width, joint = TRANSFORMERS[name]
    vision = dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=width // 64,
                  image_size=side, patch_size=patch, projection_dim=joint)
    text = dict(hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=12, projection_dim=joint,
                num_attention_heads=text_width // 64, vocab_size=49408, max_position_embeddings=77,
                bos_token_id=49406, eos_token_id=49407, pad_token_id=1)
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=joint)).save_pretrained(directory)
    CLIPImageProcessor(size=dict(shortest_edge=side), crop_size=dict(height=side, width=side)).save_pretrained(directory)


def write_open_clip(name, directory):
    import open_clip
    from safetensors.torch import save_file

    model = open_clip.create_model(OPEN_CLIP[name])
    config = dict(model_cfg=open_clip.get_model_config(OPEN_CLIP[name]), preprocess_cfg=dict(
        mean=open_clip.OPENAI_DATASET_MEAN, std=open_clip.OPENAI_DATASET_STD, interpolation="bicubic", resize_mode="shortest"))
    directory.mkdir()
    (directory / "open_clip_config.json").write_text(json.dumps(config, indent=2))
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(tensors, directory / "open_clip_model.safetensors")


def main():
    name, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    directory.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    if name in TRANSFORMERS:
        write_transformers(name, part)
    elif name in OPEN_CLIP:
        write_open_clip(name, part)
    else:
        sys.exit(f"no model {name!r}; there are {', '.join([*TRANSFORMERS, *OPEN_CLIP])}")
    part.rename(directory)


if __name__ == "__main__":
    main()
