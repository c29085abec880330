"""MCTformer-V2 (Xu et al., CVPR 2022): a vision transformer with a class token for each class.

The attention of a class token to the patches is a map of the class. A classifier on the patches sharpens this map, and
the attention between patches spreads it.
"""

import math
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.hosts import Host, HostOutput
from cpal.hosts.outputs import whole_patches
from cpal.networks.backbones import IMAGENET_MEAN, IMAGENET_STD
from cpal.networks.state_dicts import fill, read_state_dict
from cpal.settings.hosts import MctformerConfig


class MctformerHost(Host):
    """Blocks and patch embedding of a plain vision transformer, with the tensor names of MCTformer's own checkpoints.

    As in MCTformer, the last norm is not used. Features are the patch tokens after a quarter, half, three quarters and
    all of the blocks.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: VisionTransformer, num_foreground: int, attention_layers: int) -> None:
        super().__init__()
        width, patches = body.embed_dim, body.patch_embed.num_patches
        self.patch_embed, self.blocks = body.patch_embed, body.blocks
        self.num_foreground, self.attention_layers = num_foreground, attention_layers
        self.cls_token = nn.Parameter(torch.empty(1, num_foreground, width))
        self.pos_embed = nn.Parameter(torch.empty(1, num_foreground + patches, width))
        for parameter in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(parameter, std=0.02)
        self.head = nn.Conv2d(width, num_foreground, 3, padding=1)
        self.channels, self.padding = [width] * 4, IMAGENET_MEAN
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        """`image_label` is not used. cam is not negative; logits are the mean of the logits of both classifiers."""
        return self._both(images)[0]

    def training_step(self, images: Tensor, image_label: Tensor, mask: Tensor) -> tuple[HostOutput, dict[str, Tensor]]:
        """The output and two losses, of the class tokens' logits and of the patches' logits."""
        output, by_token, by_patch = self._both(images)
        return output, {
            "loss_class_tokens": F.multilabel_soft_margin_loss(by_token, image_label),
            "loss_patches": F.multilabel_soft_margin_loss(by_patch, image_label),
        }

    def new_layers(self) -> list[nn.Module]:
        return [self.head]

    def _both(self, images: Tensor) -> tuple[HostOutput, Tensor, Tensor]:
        """The output, and the logits (B, N) of class tokens (mean over D) and of patches (mean over the map)."""
        stages, tokens, attention = self.attend(images)
        patch_map = self.head(stages[-1])
        by_token, by_patch = tokens.mean(dim=-1), patch_map.mean(dim=(2, 3))
        cam = attention_cam(patch_map, attention, self.attention_layers)
        return HostOutput(stages, cam, (by_token + by_patch) / 2), by_token, by_patch

    def attend(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """images (B, 3, H, W) -> four stages (B, D, h, w), class tokens (B, N, D), attention (layers, B, L, L).

        L = N class tokens + h * w patches, in this order. Attention is the mean over heads. The images are resized to
        whole patches; h and w are rounded up.
        """
        side = self.patch_embed.patch_size[0]
        pixels = whole_patches(images.to(self.mean), side)
        patches = self.patch_embed.proj((pixels - self.mean) / self.std)
        batch, _, height, width = patches.shape
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + self.positions(height, width)
        stages, attention = [], []
        ends = [len(self.blocks) * quarter // 4 for quarter in (1, 2, 3, 4)]
        for n, block in enumerate(self.blocks, start=1):
            tokens, weights = attend_block(block, tokens)
            attention.append(weights)
            of_patches = tokens[:, self.num_foreground :].transpose(1, 2).unflatten(2, (height, width))
            stages += [of_patches] * ends.count(n)
        return stages, tokens[:, : self.num_foreground], torch.stack(attention)

    def positions(self, height: int, width: int) -> Tensor:
        """Position embedding (1, N + height * width, D); the patches' part is resized to this grid, bicubic."""
        of_classes, of_patches = self.pos_embed.split(
            [self.num_foreground, self.pos_embed.shape[1] - self.num_foreground], 1
        )
        known = math.isqrt(of_patches.shape[1])
        if (height, width) != (known, known):
            square = of_patches.transpose(1, 2).unflatten(2, (known, known))
            square = F.interpolate(square, size=(height, width), mode="bicubic", align_corners=False)
            of_patches = square.flatten(2).transpose(1, 2)
        return torch.cat([of_classes, of_patches], dim=1)


def attend_block(block: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a block of timm to tokens (B, L, D); also returns its attention (B, L, L), the mean over heads."""
    attention = block.attn
    batch, length, width = tokens.shape
    qkv = attention.qkv(block.norm1(tokens)).reshape(batch, length, 3, attention.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    weights = (attention.scale * query @ key.transpose(-2, -1)).softmax(dim=-1)
    mixed = attention.proj((weights @ value).transpose(1, 2).reshape(batch, length, width))
    tokens = tokens + block.drop_path1(block.ls1(mixed))
    tokens = tokens + block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))
    return tokens, weights.mean(dim=1)


def attention_cam(patch_map: Tensor, attention: Tensor, layers: int) -> Tensor:
    """Class-to-patch attention of the last layers times the patches' CAM, spread by patch-to-patch attention.

    patch_map (B, N, h, w) of any sign, attention (depth, B, L, L) with the N class tokens first -> (B, N, h, w), not
    negative. Layers are summed, as in MCTformer; the scale does not matter.
    """
    num_classes, (height, width) = patch_map.shape[1], patch_map.shape[2:]
    to_patches = attention[-layers:, :, :num_classes, num_classes:].sum(dim=0)
    fused = to_patches * F.relu(patch_map).flatten(2)
    between = attention[:, :, num_classes:, num_classes:].sum(dim=0)
    return torch.einsum("bpq,bnq->bnp", between, fused).unflatten(2, (height, width))


def build_mctformer_host(
    settings: MctformerConfig, num_foreground: int, *, weights: str | None = None
) -> MctformerHost:
    """The host that `hosts.mctformer` describes.

    `weights` replaces the setting, for example with none if a checkpoint is loaded afterwards. Raises UserError for a
    backbone that is no plain vision transformer, and for weights that do not fit.
    """
    source = settings.weights if weights is None else weights
    try:
        body = timm.create_model(
            settings.backbone, pretrained=source == "imagenet", num_classes=0, drop_path_rate=settings.drop_path
        )
    except OSError as error:
        raise UserError(
            f"hosts.mctformer.weights: imagenet for {settings.backbone!r} could not be downloaded ({error}); "
            "use none or a path"
        ) from None
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"hosts.mctformer.backbone {settings.backbone!r}: not in timm ({error}); "
            "take one such as deit_small_patch16_224"
        ) from None
    if not isinstance(body, VisionTransformer) or body.num_prefix_tokens != 1:
        raise UserError(
            f"hosts.mctformer.backbone {settings.backbone!r} is no plain vision transformer with one class token; "
            "take one such as deit_small_patch16_224"
        )
    host = MctformerHost(body, num_foreground, settings.attention_layers)
    if source == "imagenet":
        load_transformer(host, body.state_dict(), settings.backbone)
    elif source != "none":
        load_transformer(host, read_state_dict(Path(source)), source)
    return host


def load_transformer(host: MctformerHost, stored: dict[str, Tensor], name: str) -> None:
    """Fill the host from a state dict of MCTformer, or of a plain transformer with one class token.

    The class token of a plain transformer and its position are copied to every class (ours; MCTformer draws both at
    random), and its head is not used. Raises UserError if tensors are missing or have another shape.
    """
    found = {key.removeprefix("module."): value for key, value in stored.items()}
    own = "head.weight" in found and found["head.weight"].ndim == 4  # MCTformer's head is a convolution
    if "cls_token" in found and found["cls_token"].shape[1] == 1 and (host.num_foreground > 1 or not own):
        found["cls_token"] = found["cls_token"].expand_as(host.cls_token)
        first, rest = found["pos_embed"][:, :1], found["pos_embed"][:, 1:]
        found["pos_embed"] = torch.cat([first.expand(-1, host.num_foreground, -1), rest], dim=1)
        found |= {f"head.{key}": value for key, value in host.head.state_dict().items()}
    fill(host, found, f"hosts.mctformer.weights: {name}")
