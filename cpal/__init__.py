"""Context prototype-aware learning (CPAL, CVPR 2024) for weakly supervised semantic segmentation.

Shapes: B images, N foreground classes, K = N + 1 with background first, D feature channels, h w feature map,
H W image, L bank entries, P context prototypes, T soft neighbours.

Rooms, from the ground up; each imports only those before it: settings (params.yaml, checked), data (images, masks,
samples), maps (an image's maps and what is made of them), networks (backbones, weights, training), sources (data sets
from outside), hosts (networks that CPAL plugs into), affinity (IRN's edges and walk), segmentation (DeepLab), evaluation
(scores), method (CPAL itself), report (the page).

paper                     here
M, M_n, M_b               cam, `method.cam.normalize`, `method.cam.with_background`
y                         image_label, multi-hot (B, N)
z = v(f)                  features, `method.learner.ContextPrototypeLearner.embed`
P^I_n                     instance_prototype, `method.prototypes.instance_prototypes`
C                         support_bank, `method.prototypes.SupportBank`
p_i, N_p                  context_prototype, cpal.num_prototypes
w_i                       positiveness, `method.prototypes.positiveness`
soft neighbours, K        `method.prototypes.soft_neighbors`, cpal.topk
delta_n                   alignment_shift, `method.prototypes.alignment_shift`
PACAM, M tilde            pacam, `method.prototypes.prototype_aware_cam`
L_BCE, L_Self             classification_loss, self_loss
tau                       cpal.mask_threshold
(ours)                    taught, `method.taught_cam.TaughtCam`, `method.teach_cam.fit_taught_cam`
"""
