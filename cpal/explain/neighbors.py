"""What CPAL finds in one image: its instances, their soft neighbours, and the training images behind these."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cpal.method.classifier import Classifier
from cpal.method.fit_prototypes import Former
from cpal.method.groups import Likeness, Origins, find_groups
from cpal.method.learner import ContextPrototypeLearner, Instances


@dataclass(frozen=True)
class Fitted:
    """A classifier with its prototypes, the same one as it filled the bank, and the image of each entry of the bank."""

    classifier: Classifier
    filling: Classifier
    origins: Origins

    @property
    def learner(self) -> ContextPrototypeLearner:
        assert self.classifier.learner is not None
        return self.classifier.learner


@dataclass(frozen=True)
class Neighbor:
    """A soft neighbour (Eq. 6) of an image's instance.

    prototype: its number among the class's context prototypes, from 0. positiveness: w_i (Eq. 7). share: of the map,
    0 to 1; the shares of all neighbours sum to 1. cosine: with the aligned instance. members: instances in the bank
    whose nearest prototype it is. activation (h, w) in [-1, 1]: cosine of each cell and the prototype, of which Eq. 13
    takes the weighted mean and then the ReLU. nearest: the training images nearest to it, the nearest first.
    """

    prototype: int
    positiveness: float
    share: float
    cosine: float
    members: int
    activation: np.ndarray
    nearest: tuple[Likeness, ...]


@dataclass(frozen=True)
class ClassView:
    """What CPAL finds of class `label` (1..N) in one view of an image.

    mask bool (h, w): the cells of its instance. similarity, background (h, w) in [0, 1]: what Eq. 13 gives with the
    neighbours of the class and of the background; PACAM is the contrast of the two. prototypes: how many the class
    has, 0 where the bank has no instance of it.
    """

    label: int
    mask: np.ndarray
    similarity: np.ndarray
    background: np.ndarray
    prototypes: int
    neighbors: tuple[Neighbor, ...]


def fitted(classifier: Classifier, former: Former, origins: Origins) -> Fitted:
    """What `load_bank` loaded into the classifier's learner, ready to be asked."""
    learner = copy.deepcopy(classifier.learner)
    assert learner is not None
    learner.context.copy_(former.context)
    learner.valid.copy_(former.valid)
    learner.shift.copy_(former.shift)
    return Fitted(classifier, replace(classifier, learner=learner), origins)


@torch.no_grad()
def instances_of(classifier: Classifier, view: Tensor, label: Tensor) -> Instances:
    """The instances of an image (1, K, D) from its view (V, 3, h, w) and label (1, N)."""
    assert classifier.learner is not None
    features, cam, _ = classifier.look(view, label)
    return classifier.learner.instances(features, cam, label)


def instance_pixels(found: Fitted, view: Tensor, label: Tensor, k: int) -> np.ndarray:
    """The cells bool (h, w) whose mean is the image's instance of class k in the bank; `view` as in fit_prototypes."""
    return (instances_of(found.filling, view, label).mask[0, k] > 0).cpu().numpy()


@torch.no_grad()
def class_views(found: Fitted, view: Tensor, label: Tensor, classes: Iterable[int], *, nearest: int) -> list[ClassView]:
    """What is found of each of the classes in an image; each neighbour comes with `nearest` training images."""
    learner = found.learner
    step = instances_of(found.classifier, view, label)
    similarity = learner.similarity(step, label)
    return [
        ClassView(
            k,
            (step.mask[0, k] > 0).cpu().numpy(),
            similarity[0, k].cpu().numpy(),
            similarity[0, 0].cpu().numpy(),
            int(learner.valid[k].sum()),
            _neighbors(found, step, k, nearest) if learner.settings.topk else (),
        )
        for k in classes
    ]


def _neighbors(found: Fitted, step: Instances, k: int, count: int) -> tuple[Neighbor, ...]:
    learner = found.learner
    anchor = learner.anchor(step)
    index, weight = (x[0, k] for x in learner.neighbors(step, anchor))
    index, weight = index[weight > 0], weight[weight > 0]
    share = weight / weight.sum() if learner.settings.weighting != "none" else torch.ones_like(weight) / len(weight)
    context = step.context.unit[k]
    cosine = context[index] @ F.normalize(anchor[0, k], dim=-1)
    maps = torch.einsum("dhw,td->thw", step.unit[0], context[index]) * step.inside[0]
    entries, prototypes, valid = (
        x.cpu().numpy() for x in (learner.bank.latest(k), learner.context[k], learner.valid[k])
    )
    groups = {g.prototype: g for g in find_groups(entries, prototypes, valid, found.origins[k], nearest=count)}
    return tuple(
        Neighbor(
            prototype,
            float(weight[t]),
            float(share[t]),
            float(cosine[t]),
            groups[prototype].members,
            maps[t].cpu().numpy(),
            groups[prototype].nearest,
        )
        for t, prototype in enumerate(index.tolist())
    )
