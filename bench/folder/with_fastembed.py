"""A folder through fastembed's `ImageEmbedding`, with a local model in place of the one that it would fetch.

    python bench/folder/with_fastembed.py DIRECTORY-OF-MODEL FOLDER [--batch 16] [--threads 2]
"""

from fastembed import ImageEmbedding
from common import arguments, images, report

NAME = "Qdrant/clip-ViT-B-32-vision"


def main() -> None:
    options = arguments(__doc__)

    def run() -> int:
        model = ImageEmbedding(NAME, threads=options.threads, specific_model_path=str(options.model))
        return sum(1 for _ in model.embed(map(str, images(options)), batch_size=options.batch))

    report("fastembed", options, run)


if __name__ == "__main__":
    main()
