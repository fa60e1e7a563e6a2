"""A folder through PyTorch, as clip-retrieval does it: a DataLoader with workers that open, transform and collate,
Pillow and torchvision for the images, the model of transformers.

    python bench/folder/with_torch.py MODEL FOLDER [--batch 16] [--threads 2]
"""

import os

from common import arguments, images, report

options = arguments(__doc__)
os.environ["OMP_NUM_THREADS"] = str(options.threads)

import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402
from torchvision import transforms  # noqa: E402
from transformers import CLIPModel  # noqa: E402

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Pictures(Dataset):
    def __init__(self, size: int) -> None:
        self.paths = images(options)
        self.transform = transforms.Compose([
            transforms.Resize(size, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            lambda image: image.convert("RGB"),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return self.transform(image)


def run() -> int:
    torch.set_num_threads(options.threads)
    clip = CLIPModel.from_pretrained(options.model, attn_implementation="sdpa").eval()
    loader = DataLoader(Pictures(clip.config.vision_config.image_size), options.batch, num_workers=options.threads)
    count = 0
    with torch.inference_mode():
        for batch in loader:
            vectors = clip.visual_projection(clip.vision_model(pixel_values=batch).pooler_output)
            count += len(vectors / vectors.norm(dim=-1, keepdim=True))
    return count


if __name__ == "__main__":
    report("torch-dataloader", options, run)
