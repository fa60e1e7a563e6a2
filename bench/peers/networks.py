"""The towers of a checkpoint as PyTorch modules of one input, their inputs, and a small CLIP to train."""

import json

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

CAPTIONS, CONTEXT = 64, 77
START, END = 49406, 49407


class Tower(nn.Module):
    """A tower of transformers' CLIP with its projection."""

    def __init__(self, model, output):
        super().__init__()
        self.model, self.output = model, output

    def forward(self, x):
        return getattr(self.model(x), self.output)


def load(directory, stage):
    """The tower of `encode_image` or `encode_text`, in f32; nothing of the other one is loaded."""
    if not (directory / "config.json").exists():
        return load_open_clip(directory, stage)
    if json.loads((directory / "config.json").read_text())["model_type"] == "blip":
        return load_blip(directory, stage)
    from transformers import CLIPTextModelWithProjection, CLIPVisionModelWithProjection

    image = stage == "encode_image"
    kind = CLIPVisionModelWithProjection if image else CLIPTextModelWithProjection
    model = kind.from_pretrained(directory, attn_implementation="sdpa", dtype=torch.float32)
    return Tower(model, "image_embeds" if image else "text_embeds").eval()


def load_blip(directory, stage):
    """The image encoder of a captioner."""
    if stage != "encode_image":
        raise ValueError(f"{stage} of BLIP is not measured")
    from transformers import BlipForConditionalGeneration

    model = BlipForConditionalGeneration.from_pretrained(directory, dtype=torch.float32)
    return Tower(model.vision_model, "last_hidden_state").eval()


def load_open_clip(directory, stage):
    """The image tower of a model in open_clip's layout."""
    if stage != "encode_image":
        raise ValueError(f"{stage} of open_clip's models is not measured")
    import open_clip
    from safetensors.torch import load_file

    config = json.loads((directory / "open_clip_config.json").read_text())["model_cfg"]
    config.pop("custom_text", None)
    model = open_clip.CLIP(**config)
    model.load_state_dict(load_file(directory / "open_clip_model.safetensors"))
    return model.visual.eval()


def image_size(directory):
    """Side of the input in pixels."""
    if (directory / "config.json").exists():
        return json.loads((directory / "config.json").read_text())["vision_config"].get("image_size", 224)
    return json.loads((directory / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"]["image_size"]


def inputs(directory, stage, batch):
    """Random pixels, or ids of captions of 6 to 15 words that are filled up to the context, as these programs do."""
    rng = np.random.default_rng(7)
    if stage == "encode_image":
        side = image_size(directory)
        return rng.standard_normal((batch, 3, side, side), dtype=np.float32)
    ids = np.full((batch, CONTEXT), END, dtype=np.int64)
    for row in ids:
        words = rng.integers(6, 16)
        row[0], row[1 : words + 1] = START, rng.integers(300, 40000, words)
    return ids


class Block(nn.Module):
    """A layer of a pre-norm transformer with QuickGELU."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, causal):
        batch, tokens, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        hidden = self.fc1(self.norm2(x))
        return x + self.fc2(hidden * torch.sigmoid(1.702 * hidden))


class SmallClip(nn.Module):
    """A CLIP at 64 pixels: patch 8, width 256, 6 and 4 layers, context 32, 8192 ids. Gives the contrastive loss."""

    WIDTH, SIDE, PATCH, CONTEXT, VOCABULARY = 256, 64, 8, 32, 8192

    def __init__(self):
        super().__init__()
        width, grid = self.WIDTH, self.SIDE // self.PATCH

        def drawn(*shape):
            return nn.Parameter(0.02 * torch.randn(*shape))

        self.patches = nn.Conv2d(3, width, self.PATCH, self.PATCH, bias=False)
        self.token, self.image_positions = drawn(width), drawn(grid * grid + 1, width)
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.image_layers = nn.ModuleList(Block(width, 4) for _ in range(6))
        self.words, self.text_positions = nn.Embedding(self.VOCABULARY, width), drawn(self.CONTEXT, width)
        self.text_layers, self.text_norm = nn.ModuleList(Block(width, 4) for _ in range(4)), nn.LayerNorm(width)
        self.image_projection, self.text_projection = drawn(width, width), drawn(width, width)
        self.logit_scale = nn.Parameter(torch.tensor(1 / 0.07).log())

    def image(self, pixels):
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), 1, -1), x], 1) + self.image_positions
        x = self.before(x)
        for layer in self.image_layers:
            x = layer(x, causal=False)
        return F.normalize((self.after(x[:, 0]) @ self.image_projection).float(), dim=1)

    def text(self, ids):
        x = self.words(ids) + self.text_positions
        for layer in self.text_layers:
            x = layer(x, causal=True)
        return F.normalize((self.text_norm(x[:, -1]) @ self.text_projection).float(), dim=1)

    def forward(self, pixels, ids):
        logits = self.image(pixels) @ self.text(ids).t() * self.logit_scale.exp()
        labels = torch.arange(len(logits))
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.t(), labels)) / 2
