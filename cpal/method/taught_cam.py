"""The taught CAM (ours): a second CAM, which learns from PACAM after the network is trained.

In the paper, PACAM teaches the CAM through L_Self (Eq. 14) during the training, while the classification loss acts on
the same CAM and the prototypes still change. Here, a 1x1 convolution on z learns from the pixels where the final PACAM
is sure (`teach_cam`). A prototype is a mean of features, so channels with large values dominate it; the convolution
gives large weights to the channels that separate the classes. Only the convolution is trained, so the problem is
convex: the same features give the same map from any start.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ITERATIONS = 80  # of L-BFGS; on photographs the loss moved by less than a thousandth after 40


class TaughtCam(nn.Module):
    """A 1x1 convolution on z: weight (K, D), bias (K,); background first."""

    weight: Tensor
    bias: Tensor

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(num_classes, channels))
        self.register_buffer("bias", torch.zeros(num_classes))

    def forward(self, z: Tensor, image_label: Tensor) -> Tensor:
        """z (B, D, h, w), image_label (B, N) of 0/1 -> (B, N, h, w) in [0, 1], 0 for absent classes.

        A cell's value is p / (p + b), with p and b the probabilities of the class and of the background. It is 0.5
        where the two are equal, as in PACAM with the contrast `ratio`.
        """
        logits = torch.einsum("bdhw,kd->bkhw", z, self.weight) + self.bias[:, None, None]
        versus = (logits[:, 1:] - logits[:, :1]).sigmoid()
        return versus * image_label[:, :, None, None]

    @torch.no_grad()
    def learn(self, z: Tensor, label: Tensor, *, decay: Tensor) -> None:
        """Multinomial logistic regression of label (P,) of 0..N on z (P, D), by L-BFGS.

        All classes have the same total weight, whatever their number of pixels. decay (K,) multiplies a class's squared
        weights in the loss. These are weights for z centered and divided by the mean deviation of its channels, so that
        a decay suits features of any size. The code scales the layer instead of z, whose copy could take gigabytes.
        """
        center, scale = z.mean(dim=0), z.std(dim=0).mean()
        count = torch.bincount(label, minlength=len(self.bias)).to(z)
        share = (1 / (count * (count > 0).sum()).clamp(min=1))[label]
        weight, bias = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        weight.requires_grad_()
        bias.requires_grad_()
        optimizer = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def layer() -> tuple[Tensor, Tensor]:
            return weight / scale, bias - weight @ (center / scale)

        def loss() -> Tensor:
            optimizer.zero_grad()
            error = F.cross_entropy(F.linear(z, *layer()), label, reduction="none")
            total = (share * error).sum() + (decay * weight.square().sum(dim=1)).sum()
            total.backward()
            return total

        with torch.enable_grad():
            optimizer.step(loss)
        for own, learned in zip((self.weight, self.bias), layer(), strict=True):
            own.copy_(learned)
