"""The pass of the trained network over the training images that fills the support bank and clusters it."""

from collections.abc import Iterable

import torch

from cpal.data.views import Views
from cpal.method.classifier import Classifier
from cpal.method.learner import ContextPrototypeLearner


@torch.no_grad()
def fill_bank(classifier: Classifier, loader: Iterable[Views]) -> None:
    """Fill the learner's bank with one instance per image and present class: one pass over the images.

    Training keeps an online bank of augmented crops under a changing network; this pass sees whole images with the
    final network (ours). Each pass starts with an empty bank. R refinements need R + 1 passes, since only the contexts
    of one pass can refine the instances of the next.
    """
    learner = classifier.learner
    assert learner is not None
    classifier.host.eval()
    learner.eval()
    learner.bank.clear()
    for record, _, views in loader:
        label = classifier.label(record)
        features, cam, logits = classifier.look(views[0], label)
        learner.enqueue(learner.instances(features, cam, label), logits.sigmoid())


@torch.no_grad()
def find_contexts(learner: ContextPrototypeLearner) -> None:
    """Cluster the filled bank (Eq. 5), and measure the shift of the whole bank with a running alignment (`ema`)."""
    learner.cluster()
    if learner.settings.align == "ema":  # there is no batch to follow
        learner.measure_shift()


def fit_prototypes(classifier: Classifier, loader: Iterable[Views]) -> None:
    """`fill_bank` and `find_contexts`: one pass in one process."""
    assert classifier.learner is not None
    fill_bank(classifier, loader)
    find_contexts(classifier.learner)
