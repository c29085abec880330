"""Context prototype-aware learning (CPAL, CVPR 2024) for weakly supervised semantic segmentation.

Shapes: B images, N foreground classes, K = N + 1 with background first, D feature channels, h w feature map,
H W image, L bank entries, P context prototypes, T soft neighbours.

paper                     here
M, M_n, M_b               cam, `cam.normalize`, `cam.with_background`
y                         image_label, multi-hot (B, N)
z = v(f)                  features, `learner.ContextPrototypeLearner.embed`
P^I_n                     instance_prototype, `prototypes.instance_prototypes`
C                         support_bank, `prototypes.SupportBank`
p_i, N_p                  context_prototype, cpal.num_prototypes
w_i                       positiveness, `prototypes.positiveness`
soft neighbours, K        `prototypes.soft_neighbors`, cpal.topk
delta_n                   alignment_shift, `prototypes.alignment_shift`
PACAM, M tilde            pacam, `prototypes.prototype_aware_cam`
L_BCE, L_Self             classification_loss, self_loss
tau                       cpal.mask_threshold
(ours)                    taught, `taught_cam.TaughtCam`, `teaching.fit_taught_cam`
"""
