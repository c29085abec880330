"""Reads what the pipeline has published about a training image, and explains it."""

from collections.abc import Sequence

from cpal.data.dataset import Record
from cpal.data.masks import LabelMaps, read_truth
from cpal.errors import UserError
from cpal.explain.build import explain
from cpal.explain.neighbors import Fitted, fitted
from cpal.explain.page import Explanation
from cpal.explain.steps import Published
from cpal.maps.cams import read_maps
from cpal.maps.refined import TRAINING, read_crf
from cpal.maps.seeds import seed_rule
from cpal.maps.walked import read_walk_or_crf
from cpal.method.classifier import Classifier, load_classifier
from cpal.method.fit_prototypes import load_bank
from cpal.method.groups import check_images
from cpal.report.provenance import locked_stages, stale_stages
from cpal.settings.profiles import plain_yaml
from stages.job.network import NetworkJob
from stages.job.paths import AFFINITY, CLASSIFIER, CORRECTED_MASKS, CRF, PIPELINE, PROTOTYPES, PSEUDO_MASKS

SHOWN = (  # stages whose results the page shows
    *("train_cam", "fit_prototypes", "teach_cam", "make_cams"),
    *("refine_crf", "train_affinity", "propagate_affinity", "write_pseudo_masks"),
)


def check_settings(job: NetworkJob) -> None:
    """Raise UserError if a stage whose results are shown ran with other settings or inputs than there are now."""
    with locked_stages(PIPELINE.with_suffix(".lock")) as stages:
        stale = stale_stages(stages, plain_yaml(job.params.read_text(encoding="utf-8")))
    if changed := [stage for stage in SHOWN if stage in stale]:
        raise UserError(
            f"{job.params}: the results since {changed[0]} are of other settings or inputs; restore the settings, or "
            f"run: dvc repro {changed[-1]}"
        )


def load_fitted(job: NetworkJob) -> Fitted:
    """The trained classifier with its prototypes.

    Raises UserError with imported maps, which have no prototypes, and if a stage has not run.
    """
    config = job.config
    if config.seeds.source == "imported":
        raise UserError(
            "seeds.source: imported: these maps have no prototypes to explain; "
            "set seeds.source: taught and seeds.maps: data/cams"
        )
    classes = job.dataset.classes
    host, learner = load_classifier(
        CLASSIFIER, classes, config.chosen_host, config.cpal, seed=config.seed, device=job.device
    )
    former, origins = load_bank(PROTOTYPES, learner, classes)
    check_images(PROTOTYPES, origins, {record.image_id for record in job.dataset.split("train")})
    return fitted(Classifier(host, job.dataset.num_foreground, learner), former, origins)


def read_published(job: NetworkJob, record: Record) -> Published:
    """The results of a training image. Raises UserError if a stage has not run."""
    config = job.config
    settings = config.pseudo_mask
    rule = seed_rule(config.seeds)
    corrected = settings.corrected and (CORRECTED_MASKS / f"{record.image_id}.png").exists()
    walk = to_learn = None
    maps, crf = read_maps(job.maps, record, rule.maps), read_crf(CRF, record)
    if config.affinity.method != "none":
        walk = read_walk_or_crf(
            AFFINITY, record, power=settings.walk_power, background_threshold=settings.background_threshold
        )
    mask = LabelMaps(PSEUDO_MASKS, "write_pseudo_masks").read(record)
    if settings.unsure_background is not None and not corrected:
        to_learn = LabelMaps(PSEUDO_MASKS / TRAINING, "write_pseudo_masks").read(record)
    truth = None if record.mask is None else read_truth(job.dataset, record)
    return Published(maps, rule, crf, walk, mask, corrected, to_learn, truth)


def explain_image(job: NetworkJob, loaded: Fitted, record: Record, labels: Sequence[int]) -> Explanation:
    """An explanation of these classes of a training image."""
    return explain(job.dataset, record, labels, loaded, read_published(job, record), job.config.cam)
