"""A folder through rclip's indexing, with a local ViT-B/32 in place of the one that it would fetch, at that one's size.

    python bench/folder/with_rclip.py DIRECTORY-OF-MODEL FOLDER [--batch 16] [--threads 2]

rclip takes as many threads as there are cores, and all images of the folder: `--threads` and `--limit` do nothing.
"""

import os
import sys
import tempfile
from contextlib import redirect_stderr
from pathlib import Path

from common import arguments, report
from rclip import db, main as rclip, model, model_download
from rclip.utils import preprocess

IMAGE_SIZE = 224


def main() -> None:
    options = arguments(__doc__)
    preprocess.IMAGE_SIZE = IMAGE_SIZE
    model_download.download_visual_query_model = lambda *_, **__: str(options.model / "model.onnx")

    def run() -> int:
        with tempfile.TemporaryDirectory() as place, open(os.devnull, "w") as nowhere:
            database = db.DB(Path(place) / "index.sqlite")
            program = rclip.RClip(model.Model(), database, options.batch, None)
            with redirect_stderr(nowhere):
                program.ensure_index(str(options.folder.resolve()))
            count = len(list(database.get_image_vectors_by_dir_path(str(options.folder.resolve()))))
            program.close()
            database.close()
            return count

    report("rclip", options, run)


if __name__ == "__main__":
    sys.exit(main())
