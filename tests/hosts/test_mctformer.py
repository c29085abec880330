"""MCTformer's network against timm's own forward, its maps against a loop, its files by their published names."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, resize

from cpal.errors import UserError
from cpal.hosts.mctformer import MctformerHost, attention_cam, build_mctformer_host
from cpal.settings.config import Config
from cpal.settings.hosts import MctformerConfig

N, WIDTH = 3, 32


def body() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(img_size=64, patch_size=16, embed_dim=WIDTH, depth=4, num_heads=2, num_classes=0)


@pytest.fixture
def host() -> MctformerHost:
    return MctformerHost(body(), N, attention_layers=2)


@pytest.fixture
def settings_of(settings: Callable[..., Config]) -> Callable[..., MctformerConfig]:
    return lambda **keys: settings(**{f"hosts.mctformer.{key}": value for key, value in keys.items()}).hosts.mctformer


def pictures(*size: int, batch: int = 2) -> Tensor:
    return torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8)


@torch.no_grad()
def test_one_class_token_is_timms_own_forward() -> None:
    """With one token and one set of weights, explicit attention gives what timm's fused attention gives."""
    reference = body().eval()
    host = MctformerHost(body(), 1, attention_layers=2).eval()
    assert reference.cls_token is not None and reference.pos_embed is not None
    host.cls_token.copy_(reference.cls_token)
    host.pos_embed.copy_(reference.pos_embed)
    images = pictures(64, 64)
    stages, tokens, attention = host.attend(images)
    pixels = (images.float() - host.mean) / host.std
    expected = reference.forward_intermediates(pixels, indices=4, norm=False, intermediates_only=True)
    for stage, map_ in zip(stages, expected, strict=True):
        torch.testing.assert_close(stage, map_, atol=1e-4, rtol=1e-4)
    assert tokens.shape == (2, 1, WIDTH) and attention.shape == (4, 2, 17, 17)
    torch.testing.assert_close(attention.sum(dim=-1), torch.ones(4, 2, 17))


def test_maps_against_a_loop() -> None:
    depth, batch, height, width, layers = 3, 2, 2, 3, 2
    patch_map = torch.randn(batch, N, height, width)
    attention = torch.rand(depth, batch, N + 6, N + 6)
    found = attention_cam(patch_map, attention, layers)
    for b in range(batch):
        for n in range(N):
            fused = [
                sum(float(attention[layer, b, n, N + q]) for layer in range(depth - layers, depth))
                * max(0.0, float(patch_map[b, n, q // width, q % width]))
                for q in range(6)
            ]
            for p in range(6):
                spread = sum(
                    float(attention[layer, b, N + p, N + q]) * fused[q] for layer in range(depth) for q in range(6)
                )
                assert float(found[b, n, p // width, p % width]) == pytest.approx(spread, rel=1e-4)


@pytest.mark.parametrize(("size", "cells"), [((64, 64), (4, 4)), ((33, 47), (3, 3)), ((16, 100), (1, 7))])
def test_any_size_has_cells_for_all_of_it(host: MctformerHost, size: tuple[int, int], cells: tuple[int, int]) -> None:
    with torch.no_grad():
        output = host.eval()(pictures(*size), torch.ones(2, N))
    assert output.cam.shape == (2, N, *cells) and (output.cam >= 0).all() and output.logits.shape == (2, N)
    assert [f.shape for f in output.features] == [(2, WIDTH, *cells)] * 4 and host.channels == [WIDTH] * 4


def test_the_map_of_a_size_between_patches_covers_the_image(host: MctformerHost) -> None:
    """Cells of padding would be stretched over the image with the others, and move what lies left of them."""
    between, label = pictures(33, 47), torch.ones(2, N)
    whole = resize(between.float(), [48, 48], InterpolationMode.BICUBIC, antialias=False)
    with torch.no_grad():
        assert torch.allclose(host.eval()(between, label).cam, host(whole, label).cam, rtol=1e-4, atol=1e-6)


def test_self_loss_reaches_the_transformer(host: MctformerHost) -> None:
    host(pictures(48, 48), torch.ones(2, N)).cam.sum().backward()
    assert host.cls_token.grad is not None and host.cls_token.grad.abs().sum() > 0
    assert all(torch.isfinite(p.grad).all() for p in host.parameters() if p.grad is not None)


def test_learns_colors(host: MctformerHost) -> None:
    images = torch.tensor([[200, 30, 30], [30, 200, 30], [30, 30, 200]])[:, :, None, None].expand(-1, -1, 64, 64)
    optimizer = torch.optim.AdamW(host.train().parameters(), lr=1e-3)
    losses = []
    for _ in range(25):
        _, named = host.training_step(images, torch.eye(3), torch.zeros(3, 64, 64))
        assert set(named) == {"loss_class_tokens", "loss_patches"}
        loss = sum(named.values(), torch.zeros(()))
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    with torch.no_grad():
        assert host.eval()(images, torch.ones(3, 3)).logits.argmax(dim=1).tolist() == [0, 1, 2]


def published(num_classes: int, width: int = 384, depth: int = 12, patches: int = 196) -> dict[str, Tensor]:
    """Names and shapes of MCTformer-V2's checkpoint (DeiT-S) for this many classes."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, num_classes, width),
        "pos_embed": (1, num_classes + patches, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
        "head.weight": (num_classes, width, 3, 3),
        "head.bias": (num_classes,),
    }
    for n in range(depth):
        for name, shape in {
            "norm1": (width,),
            "norm2": (width,),
            "attn.qkv": (3 * width, width),
            "attn.proj": (width, width),
            "mlp.fc1": (4 * width, width),
            "mlp.fc2": (width, 4 * width),
        }.items():
            shapes[f"blocks.{n}.{name}.weight"] = shape
            shapes[f"blocks.{n}.{name}.bias"] = shape[:1]
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_published_checkpoint_fills_every_tensor(settings_of: Callable[..., MctformerConfig], tmp_path: Path) -> None:
    stored = published(20)
    torch.save({"model": stored}, tmp_path / "weights.pth")
    settings = settings_of(backbone="deit_small_patch16_224", weights=str(tmp_path / "weights.pth"))
    loaded = build_mctformer_host(settings, 20).state_dict()
    assert set(stored) - set(loaded) == {"norm.weight", "norm.bias"} and set(loaded) <= set(stored)
    assert all(torch.equal(value, stored[key]) for key, value in loaded.items())


def test_a_plain_transformers_token_serves_every_class(
    settings_of: Callable[..., MctformerConfig], tmp_path: Path
) -> None:
    stored = published(1, width=192)
    del stored["head.weight"], stored["head.bias"]
    torch.save(stored, tmp_path / "weights.pth")
    host = build_mctformer_host(settings_of(weights=str(tmp_path / "weights.pth")), 5)
    assert torch.equal(host.cls_token[0], stored["cls_token"][0].expand(5, -1))
    assert torch.equal(host.pos_embed[0, :5], stored["pos_embed"][0, :1].expand(5, -1))
    assert torch.equal(host.pos_embed[0, 5:], stored["pos_embed"][0, 1:])


def test_a_plain_transformer_serves_a_single_class(settings_of: Callable[..., MctformerConfig], tmp_path: Path) -> None:
    """Its head, of ImageNet's classes, is no class-token map's."""
    stored = published(1, width=192)
    stored["head.weight"], stored["head.bias"] = torch.zeros(1000, 192), torch.zeros(1000)
    torch.save(stored, tmp_path / "weights.pth")
    host = build_mctformer_host(settings_of(weights=str(tmp_path / "weights.pth")), 1)
    assert torch.equal(host.cls_token, stored["cls_token"]) and host.head.weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.3.mlp.fc1.weight": None}, r"lacks 1 tensors of the network, such as blocks\.3\.mlp\.fc1\.weight"),
        (
            {"patch_embed.proj.bias": torch.zeros(7)},
            r"patch_embed\.proj\.bias has the shape \(7,\), the network's is \(192,\)",
        ),
        ({"cls_token": torch.zeros(1, 20, 192)}, r"cls_token has the shape \(1, 20, 192\).*other classes\?"),
    ],
)
def test_weights_that_do_not_fit(
    settings_of: Callable[..., MctformerConfig], tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    stored = {key: value for key, value in (published(4, width=192) | change).items() if value is not None}
    torch.save(stored, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message):
        build_mctformer_host(settings_of(weights=str(tmp_path / "weights.pth")), 4)


@pytest.mark.parametrize("name", ["resnet18", "deit_tiny_distilled_patch16_224", "no_such_network"])
def test_other_networks_are_refused(settings_of: Callable[..., MctformerConfig], name: str) -> None:
    with pytest.raises(UserError, match=rf"hosts\.mctformer\.backbone '{name}'"):
        build_mctformer_host(settings_of(backbone=name), 4)
