"""Context prototype-aware learning (CPAL, CVPR 2024) for weakly supervised semantic segmentation.

Shapes: B images, N foreground classes, K = N + 1 classes with background first, D feature channels, h w feature map,
H W image, L bank entries, P context prototypes, T soft neighbours.

Sub-packages; each imports only from itself and from sub-packages above it:
running        processes, clusters, progress, and what a stage took
settings       params.yaml, checked
data           images, masks and views
maps           maps of an image: CAM files, seeds, CRF, drawing
networks       backbones, weights, losses
training       training samples, training loop
sources        imports data sets and maps
hosts          networks that CPAL plugs into
affinity       IRN's edges and random walk
segmentation   DeepLab: training, prediction, export
exports        masks for annotation tools, and corrected masks back
evaluation     scores, with and without ground truth
method         CPAL
report         the HTML page
explain        one image's way through the pipeline
compare        runs beside each other

paper                     here
M, M_n, M_b               cam, `method.cam.normalize`, `method.cam.with_background`
y                         image_label, multi-hot (B, N)
z = v(f)                  features, `method.learner.ContextPrototypeLearner.embed`
P^I_n                     `Instances.prototypes`, `method.prototypes.instance_prototypes`
C                         `ContextPrototypeLearner.bank`, `method.prototypes.SupportBank`
p_i, N_p                  `ContextPrototypeLearner.context`, cpal.num_prototypes
w_i                       positiveness, `method.prototypes.positiveness`
soft neighbours, K        `method.prototypes.soft_neighbors`, cpal.topk
delta_n                   alignment_shift, `method.prototypes.alignment_shift`
PACAM, M tilde            pacam, `method.prototypes.prototype_aware_cam`
L_BCE, L_Self             loss_classification, loss_self
tau                       cpal.mask_threshold
(ours)                    taught, `method.taught_cam.TaughtCam`, `method.teach_cam.teach_cam`
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpal.method.learner import ContextPrototypeLearner
    from cpal.settings.cpal import CpalSettings

__version__ = "0.2.0"
__all__ = ["ContextPrototypeLearner", "CpalSettings"]


def __getattr__(name: str) -> Any:
    """Import the two public names on first use: most stages need neither of them, and no torch."""
    if name == "ContextPrototypeLearner":
        from cpal.method.learner import ContextPrototypeLearner

        return ContextPrototypeLearner
    if name == "CpalSettings":
        from cpal.settings.cpal import CpalSettings

        return CpalSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
