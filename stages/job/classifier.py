"""Loads the trained classifier for the stages after train_cam."""

from dataclasses import replace

from cpal.hosts import Host
from cpal.method.classifier import Classifier, load_classifier
from cpal.method.taught_cam import TaughtCam
from cpal.networks.weights import load_weights
from stages.job.feature_cache import remembering
from stages.job.network import NetworkJob
from stages.job.paths import CLASSIFIER, PROTOTYPES, TAUGHT_CAM


def trained_host(job: NetworkJob) -> tuple[Host, Classifier]:
    """The host that train_cam trained, and a classifier around it.

    The learner of the classifier has the trained projections and an empty bank.
    """
    config = job.config
    host, learner = load_classifier(
        CLASSIFIER, job.dataset.classes, config.chosen_host, config.cpal, seed=config.seed, device=job.device
    )
    job.in_half(host)
    # Outputs on disk are those of full precision.
    seen = (
        host
        if job.amp != "off"
        else remembering(host, CLASSIFIER, config.chosen_host, config.cpal.features, job.device)
    )
    return host, Classifier(seen, job.dataset.num_foreground, learner)


def fitted_classifier(job: NetworkJob, *, taught: bool) -> Classifier:
    """The classifier with the prototypes of fit_prototypes and, with `taught`, the taught CAM of teach_cam."""
    _, classifier = trained_host(job)
    learner, classes = classifier.learner, list(job.dataset.classes)
    assert learner is not None
    load_weights(PROTOTYPES, {"learner": learner}, {"classes": classes}, stage="fit_prototypes")
    if not taught:
        return classifier
    network = TaughtCam(job.dataset.num_classes, learner.shift.shape[1]).to(job.device)
    load_weights(TAUGHT_CAM, {"taught": network}, {"classes": classes}, stage="teach_cam")
    return replace(classifier, taught=network)
