"""The pass of the trained network over the training images that fills the support bank and clusters it."""

from collections.abc import Iterable

import torch
from torch import nn

from cpal.data.dataset import Dataset, Record
from cpal.data.views import Views
from cpal.hosts.outputs import image_label, view_output
from cpal.method.learner import ContextPrototypeLearner, select


@torch.no_grad()
def fit_prototypes(
    host: nn.Module,
    learner: ContextPrototypeLearner,
    dataset: Dataset,
    records: list[Record],
    loaders: Iterable[Iterable[Views]],
) -> None:
    """Fill the learner's bank with one instance per image and present class, and cluster.

    Training keeps an online bank of augmented crops under a changing network; this pass sees whole images with the
    final one (ours). `host` gives a HostOutput. Each loader is a pass that starts with an empty bank; refinements need
    one more pass than there are of them, since only the contexts of one pass can refine the instances of the next.
    """
    host.eval()
    learner.eval()
    for loader in loaders:
        learner.bank.clear()
        for index, _, views in loader:
            label = image_label(records[index], dataset.num_foreground, learner.shift.device)
            output = view_output(host, views[0], label)
            features = select(output.features, learner.settings)
            learner.enqueue(learner.instances(features, output.cam, label), output.cam, label)
        learner.cluster()
        if learner.settings.align == "ema":  # there is no batch to follow: the shift is that of the whole bank
            learner.measure_shift()
