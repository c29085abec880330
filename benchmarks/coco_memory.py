"""Peak memory and time of `prepare` on a synthetic instances JSON as large as COCO 2014's.

python -m benchmarks.coco_memory --images 80000
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
SIDE = 64  # of the images, in pixels; decoding COCO's 640x480 adds a constant for each worker


def write_json(path: Path, names: list[str], rng: np.random.Generator) -> None:
    """Write 7.3 outlines an image on average, of 10 to 59 points; every 80th annotation is a crowd."""
    with path.open("w", encoding="utf-8") as stream:
        images = [{"id": n, "file_name": name, "width": SIDE, "height": SIDE} for n, name in enumerate(names)]
        categories = [{"id": n, "name": f"class {n}"} for n in range(1, 81)]
        stream.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}, "annotations": [')
        for number in range(int(7.3 * len(names))):
            angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(10, 60)))
            center, radius = rng.uniform(20, 44, 2), rng.uniform(5, 20)
            points = (center + radius * np.stack([np.cos(angles), np.sin(angles)], 1)).round(4).ravel().tolist()
            crowd = number % 80 == 0
            outline = {"size": [SIDE, SIDE], "counts": [64] * 64} if crowd else [points]
            entry = {
                "id": number,
                "image_id": int(rng.integers(len(names))),
                "category_id": number % 80 + 1,
                "segmentation": outline,
                "iscrowd": int(crowd),
                "area": float(radius**2),
                "bbox": [*center.round(2).tolist(), float(radius), float(radius)],
            }
            stream.write(("," if number else "") + json.dumps(entry))
        stream.write("]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=80_000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root, rng = Path(name), np.random.default_rng(0)
        (root / "annotations").mkdir()
        pictures = [root / f"{n}.jpg" for n in range(10)]
        for picture in pictures:
            Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(picture)
        for split, count in {"train2014": arguments.images, "val2014": 100}.items():
            (root / split).mkdir()
            names = [f"COCO_{split}_{n:012}.jpg" for n in range(count)]
            for n, name in enumerate(names):
                os.link(pictures[n % 10], root / split / name)
            write_json(root / f"annotations/instances_{split}.json", names, rng)
        size = (root / "annotations/instances_train2014.json").stat().st_size / 1e6
        params = YAML().load(ROOT / "params.yaml")
        changes = {"source": "coco2014", "labels": "coco", "masks": "annotations", "root": str(root)}
        lists = {"train_list": "train2014", "score_list": "train2014", "val_list": "val2014"}
        params["data"].update(changes | lists)
        YAML().dump(params, root / "params.yaml")
        command = [sys.executable, "-m", "stages.prepare", "--params", str(root / "params.yaml")]
        start = time.perf_counter()
        options = ["--out", str(root / "out"), "--workers", str(arguments.workers)]
        subprocess.run([*command, *options], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
        elapsed = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"{arguments.images} images, JSON of {size:.0f} MB: peak {peak:.2f} GB in one process, {elapsed:.0f} s")


if __name__ == "__main__":
    main()
