"""The pass of the trained network over the training images that fills the support bank and clusters it."""

from collections.abc import Iterable

import torch

from cpal.data.views import Views
from cpal.method.classifier import Classifier


@torch.no_grad()
def fit_prototypes(classifier: Classifier, loader: Iterable[Views]) -> None:
    """Fill the learner's bank with one instance per image and present class, and cluster: one pass.

    Training keeps an online bank of augmented crops under a changing network; this pass sees whole images with the
    final one (ours). Each pass starts with an empty bank. Refinements need one more pass than there are of them, since
    only the contexts of one pass can refine the instances of the next.
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
    learner.cluster()
    if learner.settings.align == "ema":  # there is no batch to follow: the shift is that of the whole bank
        learner.measure_shift()
