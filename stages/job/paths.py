"""Where the stages read and write; nothing below `cpal` knows a path of the pipeline."""

import os
from pathlib import Path

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")
CACHE = Path(os.environ.get("CPAL_CACHE", ".cache"))  # experiments in DVC's queue can share one

DATASET = Path("data/dataset")
FIRST_ROUND = Path("data/first_round")
CLASSIFIER = Path("data/classifier.safetensors")
PROTOTYPES = Path("data/prototypes.safetensors")
CAMS = Path("data/cams")
IMPORTED_CAMS = Path("data/imported_cams")
CRF = Path("data/crf")
AFFINITY_NET = Path("data/affinity.safetensors")
AFFINITY = Path("data/affinity")
PSEUDO_MASKS = Path("data/pseudo_masks")
SEGMENTATION = Path("data/segmentation.safetensors")
PREDICTIONS = Path("data/predictions")
METRICS = Path("data/metrics")
PROTOTYPE_METRICS = METRICS / "prototypes.json"
LABEL_METRICS = METRICS / "classifier.json"
LABEL_PRECISION = METRICS / "classifier_ap.json"
CLASSIFIER_CURVES = METRICS / "train_cam"
SEGMENTATION_CURVES = METRICS / "train_segmentation"
REPORT = Path("data/report")
OUTPUTS = (DATASET, FIRST_ROUND, CAMS, IMPORTED_CAMS, CRF, AFFINITY, PSEUDO_MASKS, PREDICTIONS, METRICS, REPORT)
