"""The pass of the trained network over the training images that fills the support bank and clusters it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cpal.data.views import Views
from cpal.method.classifier import Classifier
from cpal.method.groups import STAGE, Origins, read_origins
from cpal.method.learner import ContextPrototypeLearner
from cpal.networks.weights import load_weights, save_weights


class Former(nn.Module):
    """Contexts and shift of the pass before, which refined the masks of the instances that the bank holds.

    With them, the pixels behind an instance can be found again. They are empty in the first pass.
    """

    context: Tensor
    valid: Tensor
    shift: Tensor

    def __init__(self, learner: ContextPrototypeLearner) -> None:
        super().__init__()
        self.register_buffer("context", learner.context.clone())
        self.register_buffer("valid", learner.valid.clone())
        self.register_buffer("shift", learner.shift.clone())


@torch.no_grad()
def fill_bank(classifier: Classifier, loader: Iterable[Views]) -> Origins:
    """Fill the learner's bank with one instance per image and present class; returns which image each one is of.

    Training keeps an online bank of augmented crops under a changing network; this pass sees whole images with the
    final network (ours). Each pass starts with an empty bank. R refinements need R + 1 passes, since only the contexts
    of one pass can refine the instances of the next.
    """
    learner = classifier.learner
    assert learner is not None
    classifier.host.eval()
    learner.eval()
    bank = learner.bank
    bank.clear()
    origins: Origins = [[] for _ in bank.seen]
    for record, _, views in loader:
        label, seen = classifier.label(record), bank.seen.clone()
        features, cam, logits = classifier.look(views[0], label)
        learner.enqueue(learner.instances(features, cam, label), logits.sigmoid())
        for k in (bank.seen > seen).nonzero()[:, 0].tolist():
            origins[k].append(record.image_id)
    return newest(origins, learner)


def newest(origins: Origins, learner: ContextPrototypeLearner) -> Origins:
    """Without the images whose instances the bank no longer holds."""
    return [ids[-learner.bank.entries.shape[1] :] for ids in origins]


def save_bank(
    path: Path, learner: ContextPrototypeLearner, former: Former, origins: Origins, classes: Sequence[str]
) -> None:
    """Write the learner, and what it takes to find the pixels behind each instance: `former` and `origins`."""
    save_weights(path, {"learner": learner, "former": former}, {"classes": list(classes), "origins": origins})


def load_bank(path: Path, learner: ContextPrototypeLearner, classes: Sequence[str]) -> tuple[Former, Origins]:
    """Load what `save_bank` wrote.

    Raises UserError if the file is missing, damaged, or made with other settings or by another version.
    """
    former = Former(learner)
    load_weights(path, {"learner": learner, "former": former}, {"classes": list(classes)}, stage=STAGE)
    return former, read_origins(path, learner.bank.valid().sum(dim=1).tolist())


@torch.no_grad()
def find_contexts(learner: ContextPrototypeLearner) -> None:
    """Cluster the filled bank (Eq. 5), and measure the shift of the whole bank with a running alignment (`ema`)."""
    learner.cluster()
    if learner.settings.align == "ema":  # there is no batch to follow
        learner.measure_shift()


def fit_prototypes(classifier: Classifier, loader: Iterable[Views]) -> Origins:
    """`fill_bank` and `find_contexts`: one pass in one process."""
    assert classifier.learner is not None
    origins = fill_bank(classifier, loader)
    find_contexts(classifier.learner)
    return origins
