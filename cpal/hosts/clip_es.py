"""CLIP-ES (Lin et al., CVPR 2023): maps from CLIP without any training.

CLIP compares an image with texts for its classes and for many backgrounds. Grad-CAM finds the patches that raise the
probability of a class against the image's other classes and the backgrounds. The attention between patches spreads the
resulting map.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.hosts import Host, HostOutput
from cpal.hosts.outputs import whole_patches
from cpal.networks.state_dicts import fill, read_state_dict
from cpal.settings.hosts import ClipEsConfig

CLIP_MEAN = (122.7709, 116.7460, 104.0937)
CLIP_STD = (68.5005, 66.6322, 70.3232)
EPSILON = 1e-7


class ClipEsHost(Host):
    """CLIP's image encoder and text embeddings: first of the N classes, then of the backgrounds.

    Nothing is trained.
    """

    unknown_label = 0.0  # each label costs a Grad-CAM, and the logits do not depend on the labels
    visual: Any  # a module of open_clip, whose attributes have no types
    text: Tensor
    logit_scale: Tensor
    mean: Tensor
    std: Tensor

    def __init__(
        self, visual: Any, text: Tensor, logit_scale: Tensor, num_foreground: int, settings: ClipEsConfig
    ) -> None:
        super().__init__()
        self.visual = visual.requires_grad_(False)
        self.num_foreground, self.settings = num_foreground, settings
        self.channels, self.padding = [visual.conv1.out_channels] * 4, CLIP_MEAN
        self.register_buffer("text", F.normalize(text, dim=-1))
        self.register_buffer("logit_scale", logit_scale.detach().clone())
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(1, 3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, images: Tensor, image_label: Tensor) -> HostOutput:
        """cam is not negative, and 0 for absent classes; a logit is the log odds of a class against all other texts."""
        stages, tokens, attention, grid = self.attend(images)
        logits, cams = [], []
        for n, label in enumerate(image_label):
            with torch.autocast(tokens.device.type, enabled=False):  # a sure class's gradients need 32 bits
                cam, logit, last = self.grad_cam(tokens[n].float(), label, grid)
            layers = torch.cat([attention[:, n, 1:, 1:], last[None, 1:, 1:]])[-self.settings.attention_layers :]
            cams.append(spread_by_attention(cam, layers.mean(dim=0), self.settings))
            logits.append(logit)
        features = [*stages, self.last_stage(tokens, grid)]
        return HostOutput(features, torch.stack(cams), torch.stack(logits))

    def training_step(self, images: Tensor, image_label: Tensor, mask: Tensor) -> tuple[HostOutput, dict[str, Tensor]]:
        raise AssertionError("CLIP-ES has nothing to train")

    def new_layers(self) -> list[nn.Module]:
        return []

    def attend(self, images: Tensor) -> tuple[list[Tensor], Tensor, Tensor, tuple[int, int]]:
        """Three stages (B, D, h, w), tokens (B, L, D) before the last block, attention (layers - 1, B, L, L), (h, w).

        L = 1 + h w. The images are resized to whole patches; h and w are rounded up.
        """
        visual, side = self.visual, self.visual.conv1.stride[0]
        pixels = whole_patches(images.to(self.mean), side)
        grid = (pixels.shape[2] // side, pixels.shape[3] // side)
        patches = visual.conv1((pixels - self.mean) / self.std).flatten(2).transpose(1, 2)
        first = visual.class_embedding.expand(len(patches), 1, -1)
        tokens = visual.ln_pre(torch.cat([first, patches], dim=1) + positions(visual.positional_embedding, grid))
        blocks = visual.transformer.resblocks
        stages, attention = [], []
        for n, block in enumerate(blocks[:-1], start=1):
            tokens, weights = attend_block(block, tokens, block.ln_1(tokens))
            attention.append(weights)
            stages += [_as_map(tokens, grid)] * [len(blocks) * quarter // 4 for quarter in (1, 2, 3)].count(n)
        return stages, tokens, torch.stack(attention), grid

    def last_stage(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map (B, D, h, w) of the tokens after the last block."""
        block = self.visual.transformer.resblocks[-1]
        return _as_map(attend_block(block, tokens, block.ln_1(tokens))[0], grid)

    def grad_cam(self, tokens: Tensor, label: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """tokens (L, D) before the last block, label (N,) -> cam (N, h, w) in [0, 1], logits (N,), attention (L, L).

        The score of a class is its probability among the image's classes and the backgrounds. Its gradient at the input
        of the last block's attention (after the block's first norm) gives the weights of this input's channels.
        """
        block = self.visual.transformer.resblocks[-1]
        with torch.enable_grad():
            seen = block.ln_1(tokens).detach().requires_grad_()
            out, attention = attend_block(block, tokens[None], seen[None])
            image = F.normalize(self.visual.ln_post(out)[0, 1:].mean(dim=0) @ self.visual.proj, dim=-1)
            logits = self.logit_scale.exp() * self.text @ image
            present = label.nonzero()[:, 0]
            backgrounds = torch.arange(self.num_foreground, len(self.text), device=label.device)
            scores = logits[torch.cat([present, backgrounds])].softmax(dim=0)
            gradients = [torch.autograd.grad(scores[k], seen, retain_graph=True)[0] for k in range(len(present))]
        cam = torch.zeros(self.num_foreground, *grid, device=tokens.device)
        for k, gradient in zip(present.tolist(), gradients, strict=True):
            channels = gradient[1:].mean(dim=0)
            cam[k] = _stretched(F.relu(seen.detach()[1:] @ channels)).unflatten(0, grid)
        logits = logits.detach()
        others = logits.expand(self.num_foreground, -1).clone().fill_diagonal_(-torch.inf).logsumexp(dim=1)
        return cam, logits[: self.num_foreground] - others, attention[0].detach()


def attend_block(block: Any, tokens: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Apply a block of open_clip -> tokens (B, L, D), attention (B, L, L); `seen`: `tokens` after its first norm."""
    attention = block.attn
    batch, length, width = tokens.shape
    qkv = F.linear(seen, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = qkv.reshape(batch, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    weights = (query.shape[-1] ** -0.5 * query @ key.transpose(-2, -1)).softmax(dim=-1)
    mixed = attention.out_proj((weights @ value).transpose(1, 2).reshape(batch, length, width))
    tokens = tokens + block.ls_1(mixed)
    return tokens + block.ls_2(block.mlp(block.ln_2(tokens))), weights.mean(dim=1)


def positions(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a position embedding (1 + P, D) of a square of patches to (1 + h w, D); bilinear, as in CLIP-ES."""
    side = round((len(embedding) - 1) ** 0.5)
    if grid == (side, side):
        return embedding
    square = embedding[1:].T.unflatten(1, (side, side))[None]
    return torch.cat(
        [embedding[:1], F.interpolate(square, size=grid, mode="bilinear", align_corners=False)[0].flatten(1).T]
    )


def spread_by_attention(cam: Tensor, attention: Tensor, settings: ClipEsConfig) -> Tensor:
    """Class-aware attention affinity: cam (N, h, w) in [0, 1], attention (h w, h w) of patches -> (N, h, w).

    Each class spreads only from the bounding boxes of its own regions of high score.
    """
    affinity = sinkhorn(attention, settings.sinkhorn_iterations)
    affinity = (affinity + affinity.T) / 2
    affinity = affinity @ affinity
    inside = box_masks(cam, settings.box_threshold)
    return torch.einsum("pq,nq->np", affinity, (cam * inside).flatten(1)).view_as(cam)


def sinkhorn(matrix: Tensor, iterations: int) -> Tensor:
    """Divide columns and rows by their sums in turn, so that all sums approach 1 (Sinkhorn and Knopp, 1967)."""
    for _ in range(iterations):
        matrix = matrix / matrix.sum(dim=0, keepdim=True)
        matrix = matrix / matrix.sum(dim=1, keepdim=True)
    return matrix


def box_masks(maps: Tensor, threshold: float) -> Tensor:
    """1 inside the bounding boxes of the connected parts of each map (N, h, w) above threshold * maximum, else 0."""
    above = (maps > threshold * maps.amax(dim=(1, 2), keepdim=True)).cpu().numpy()
    inside = np.zeros(above.shape, np.float32)
    for mask, parts in zip(inside, above, strict=True):
        for box in ndimage.find_objects(ndimage.label(parts, structure=np.ones((3, 3)))[0]):
            mask[box] = 1
    return torch.from_numpy(inside).to(maps)


def _stretched(values: Tensor) -> Tensor:
    """Rescale to [0, 1] by minimum and maximum."""
    values = values - values.min()
    return values / (values.max() + EPSILON)


def _as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    return tokens[:, 1:].transpose(1, 2).unflatten(2, grid)


def build_clip_es_host(settings: ClipEsConfig, classes: Sequence[str], *, weights: str | None = None) -> ClipEsHost:
    """The host that `hosts.clip_es` describes, with the texts of the classes.

    `weights` replaces the setting if a checkpoint, which also has the text embeddings, is loaded afterwards. Raises
    UserError for a model or weights that do not exist or do not fit, and if the number of names is not that of the
    classes.
    """
    names = [name.replace("_", " ") for name in settings.names or classes]
    if len(names) != len(classes):
        raise UserError(
            f"hosts.clip_es.names: {len(names)} for {len(classes)} classes ({', '.join(classes)}); "
            "name each class once, or write names: null"
        )
    texts = [settings.template.format(name) for name in (*names, *settings.background)]
    model = _clip(settings.backbone, settings.weights if weights is None else weights)
    if not isinstance(getattr(model.visual, "proj", None), nn.Parameter):
        raise UserError(
            f"hosts.clip_es.backbone {settings.backbone!r} is no transformer of CLIP's; take ViT-B-16-quickgelu"
        )
    if weights is not None:  # the checkpoint that is loaded afterwards has the embeddings
        text = torch.zeros(len(texts), model.visual.proj.shape[1])
    else:
        text = encode_texts(model, open_clip.get_tokenizer(settings.backbone), texts)
    return ClipEsHost(model.visual, text, model.logit_scale, len(classes), settings)


@torch.no_grad()
def encode_texts(model: Any, tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """Embeddings (texts, D) of unit length."""
    return F.normalize(model.eval().encode_text(tokenizer(list(texts))), dim=-1)


def _clip(name: str, weights: str) -> Any:
    if name not in open_clip.list_models():
        raise UserError(f"hosts.clip_es.backbone {name!r}: unknown to open_clip; take ViT-B-16-quickgelu")
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it warns of random weights, which are intended here
    try:
        model = open_clip.create_model(name, pretrained="openai" if weights == "openai" else None)
    except Exception as error:  # the hub, the network and open_clip raise different exceptions
        raise UserError(
            f"hosts.clip_es.weights: {weights} for {name!r} could not be had ({error}); give the path of a state dict"
        ) from None
    finally:
        logging.disable(level)
    if weights not in ("openai", "none"):
        # OpenAI and open_clip use the same names of tensors.
        fill(model, read_state_dict(Path(weights)), f"hosts.clip_es.weights: {weights}")
    return model.float()
