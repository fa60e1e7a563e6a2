"""Writes a checkpoint of the size of a published model, with pseudo-random weights: speed does not ask for more.

  checkpoints.py NAME DIR

NAME is clip-vit-base-patch32, clip-vit-large-patch14-336 or blip-caption-base (transformers' layout), or clip-rn50
(open_clip's). DIR appears whole or not at all.
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
BLIP = ["blip-caption-base"]
OPEN_CLIP = {"clip-rn50": "RN50-quickgelu"}

# Tokens of BERT's vocabulary that have a meaning; the others are made up.
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
WORDS = 30522


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


def write_blip(directory):
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

    # The default of the vision tower, 1e-10, is less than anything that was ever trained.
    config = BlipConfig(vision_config=dict(initializer_range=0.02))
    BlipForConditionalGeneration(config).save_pretrained(directory)
    side = config.vision_config.image_size
    BlipImageProcessor(size=dict(height=side, width=side)).save_pretrained(directory)
    words = (SPECIAL.get(i, f"word{i}") for i in range(WORDS))
    (directory / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    (directory / "tokenizer_config.json").write_text(json.dumps(dict(do_lower_case=True, tokenizer_class="BertTokenizer")))


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
    elif name in BLIP:
        write_blip(part)
    elif name in OPEN_CLIP:
        write_open_clip(name, part)
    else:
        sys.exit(f"no model {name!r}; there are {', '.join([*TRANSFORMERS, *BLIP, *OPEN_CLIP])}")
    part.rename(directory)


if __name__ == "__main__":
    main()
