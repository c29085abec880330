"""One photograph's way in Python, without DVC: CAM, PACAM, seed, DenseCRF and pseudo-mask, from a trained classifier.

Run it in the project's folder after `dvc repro`: python examples/one_image.py photo.jpg cat,dog mask.png
"""

import sys
from pathlib import Path

import torch

from cpal.data.dataset import read_dataset
from cpal.data.images import read_image
from cpal.data.masks import write_mask
from cpal.data.views import image_views
from cpal.maps.crf import refine
from cpal.maps.refined import pseudo_mask
from cpal.maps.seeds import SeedRule, seed_scores
from cpal.method.classifier import Classifier, load_classifier
from cpal.method.make_cams import localize
from cpal.networks.weights import load_weights
from cpal.settings.config import load_config

if len(sys.argv) != 4:
    sys.exit("give a photograph, the names of its classes, and the file of the mask: photo.jpg cat,dog mask.png")
photo, shown, target = sys.argv[1], sys.argv[2].split(","), Path(sys.argv[3])
config = load_config(Path("params.yaml"))
classes = read_dataset(Path("data/dataset")).classes
if unknown := sorted(set(shown) - set(classes)):
    sys.exit(f"{', '.join(unknown)}: no class of data/dataset, which has {', '.join(classes)}")
host, learner = load_classifier(
    Path("data/classifier.safetensors"),
    classes,
    config.chosen_host,
    config.cpal,
    seed=config.seed,
    device=torch.device("cpu"),
)
prototypes = Path("data/prototypes.safetensors")
load_weights(prototypes, {"learner": learner}, {"classes": list(classes)}, stage="fit_prototypes")

image = read_image(Path(photo))
pixels = torch.from_numpy(image).permute(2, 0, 1)
views = image_views(pixels, config.cam.scales, flip=config.cam.flip, long_side=config.cam.long_side)
label = torch.tensor([[float(name in shown) for name in classes]])
maps = localize(Classifier(host, len(classes), learner), label, image.shape[:2], views)
for name, map_ in maps.maps.items():
    print(f"{name}: {len(maps.classes)} maps of {map_.shape[1:]} cells, up to {map_.max():.2f}")

rule = SeedRule("pacam", {"pacam": config.seeds.pacam_threshold})
refined = refine(image, seed_scores(maps, rule), maps.classes, config.crf)
mask = pseudo_mask(refined, min_confidence=config.pseudo_mask.min_confidence)
write_mask(target, mask)
print(f"{target}: {100 * (mask > 0).mean():.1f}% of the pixels show a class or are void")
