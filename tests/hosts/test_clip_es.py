"""CLIP-ES against open_clip's own encoder, autograd by hand and small maps; its texts, and its files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor

import cpal.hosts.clip_es as clip_es
from cpal.data.dataset import Dataset
from cpal.errors import UserError
from cpal.hosts.clip_es import ClipEsHost, box_masks, build_clip_es_host, encode_texts, sinkhorn, spread_by_attention
from cpal.method.train_cam import train_classifier
from cpal.networks.state_dicts import fill
from cpal.settings.config import Config
from cpal.settings.hosts import ClipEsConfig
from cpal.training.loop import Run

NAMES = ("red", "green", "blue")


def tiny() -> CLIP:
    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=4, width=64, head_width=32, patch_size=16, image_size=64)
    return CLIP(32, vision, CLIPTextCfg(width=32, heads=2, layers=1), quick_gelu=True).eval()


@pytest.fixture
def settings_of(settings: Callable[..., Config]) -> Callable[..., ClipEsConfig]:
    few = {"hosts.clip_es.background": ["sky", "sea"], "hosts.clip_es.attention_layers": 2}
    return lambda **keys: settings(**few | {f"hosts.clip_es.{key}": value for key, value in keys.items()}).hosts.clip_es


@pytest.fixture
def host(settings_of: Callable[..., ClipEsConfig]) -> ClipEsHost:
    model = tiny()
    return ClipEsHost(model.visual, torch.randn(5, 32), model.logit_scale, 3, settings_of()).eval()


def pictures(*size: int) -> Tensor:
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8)


LABELS = torch.tensor([[1.0, 0, 1], [0, 1, 0]])


def test_encoder_is_open_clips(host: ClipEsHost) -> None:
    images, model = pictures(64, 64), tiny()
    with torch.no_grad():
        stages, tokens, attention, grid = host.attend(images)
        last = host.last_stage(tokens, grid)
        pixels = (images / 255 - torch.tensor(open_clip.OPENAI_DATASET_MEAN)[:, None, None]) / torch.tensor(
            open_clip.OPENAI_DATASET_STD
        )[:, None, None]
        seen: list[Tensor] = []
        for block in model.visual.transformer.resblocks:
            block.register_forward_hook(lambda _module, _inputs, out: seen.append(out))
        model.encode_image(pixels)
    assert grid == (4, 4) and attention.shape == (3, 2, 17, 17)
    torch.testing.assert_close(tokens, seen[2], atol=1e-4, rtol=1e-4)
    for found, expected in zip([*stages, last], seen, strict=True):
        torch.testing.assert_close(found, expected[:, 1:].transpose(1, 2).reshape(2, 64, 4, 4), atol=1e-4, rtol=1e-4)


def test_grad_cam_against_small_steps(host: ClipEsHost) -> None:
    """A channel weighs what a class's probability gains by a little more of it, averaged over the patches."""
    host.double()
    with torch.no_grad():
        _, tokens, _, grid = host.attend(pictures(32, 32))
    block = host.visual.transformer.resblocks[-1]
    label = LABELS[0].double()

    def probability(seen: Tensor, k: int) -> Tensor:
        out, _ = clip_es.attend_block(block, tokens[:1], seen[None])
        image = host.visual.ln_post(out)[0, 1:].mean(0) @ host.visual.proj
        logits = torch.exp(host.logit_scale) * F.cosine_similarity(image[None], host.text)
        return logits[[0, 2, 3, 4]].softmax(0)[k]

    with torch.no_grad():
        seen = block.ln_1(tokens[0])
        channels = torch.zeros(64, dtype=torch.double)
        for d in range(64):
            step = torch.zeros_like(seen)
            step[1:, d] = 1e-5
            channels[d] = (probability(seen + step, 1) - probability(seen - step, 1)) / 2e-5 / 4
        expected = (seen[1:] @ channels).clamp(min=0)
        expected = (expected - expected.min()) / (expected.max() - expected.min() + 1e-7)
        cam, _, _ = host.grad_cam(tokens[0], label, grid)
    torch.testing.assert_close(cam[2].flatten().double(), expected, atol=1e-3, rtol=1e-3)
    assert (cam[1] == 0).all()


@pytest.mark.parametrize(("size", "cells"), [((64, 64), (4, 4)), ((33, 47), (3, 3)), ((16, 100), (1, 7))])
def test_output_of_any_size(host: ClipEsHost, size: tuple[int, int], cells: tuple[int, int]) -> None:
    images = pictures(*size)
    output = host(images, LABELS)
    assert output.cam.shape == (2, 3, *cells) and output.logits.shape == (2, 3) and (output.cam >= 0).all()
    assert [f.shape for f in output.features] == [(2, 64, *cells)] * 4 and host.channels == [64] * 4
    assert (output.cam[LABELS == 0] == 0).all() and all(output.cam[b, n].any() for b, n in LABELS.nonzero().tolist())
    assert not output.cam.requires_grad and all(p.grad is None for p in host.parameters())
    alone = host(images[1:], LABELS[1:])
    torch.testing.assert_close(alone.cam[0], output.cam[1], atol=1e-4, rtol=1e-3)


def test_an_image_without_a_class_has_no_map(host: ClipEsHost) -> None:
    assert (host(pictures(32, 32), torch.zeros(2, 3)).cam == 0).all()


def test_logits_know_nothing_of_the_labels(host: ClipEsHost) -> None:
    images = pictures(48, 40)
    told, untold = (host(images, torch.full((2, 3), value)).logits for value in (1.0, host.unknown_label))
    assert host.unknown_label == 0 and torch.equal(told, untold)


def test_logits_are_log_odds(host: ClipEsHost) -> None:
    with torch.no_grad():
        _, tokens, _, grid = host.attend(pictures(32, 32))
        out, _ = clip_es.attend_block(
            host.visual.transformer.resblocks[-1], tokens, host.visual.transformer.resblocks[-1].ln_1(tokens)
        )
        image = host.visual.ln_post(out)[:, 1:].mean(1) @ host.visual.proj
        cosine = F.cosine_similarity(image[:, None], host.text[None], dim=-1)
        expected = (host.logit_scale.exp() * cosine).softmax(-1)[:, :3]
        found = host(pictures(32, 32) * 0, LABELS).logits.shape, host.grad_cam(tokens[0], LABELS[0], grid)[1]
    assert found[0] == (2, 3)
    torch.testing.assert_close(found[1].sigmoid(), expected[0], atol=1e-5, rtol=1e-4)


def test_sinkhorn_makes_rows_and_columns_sum_to_one() -> None:
    matrix = sinkhorn(torch.rand(6, 6) + 0.05, 50)
    torch.testing.assert_close(matrix.sum(0), torch.ones(6))
    torch.testing.assert_close(matrix.sum(1), torch.ones(6))
    once = torch.rand(3, 3)
    columns = once / once.sum(0)
    torch.testing.assert_close(sinkhorn(once, 1), columns / columns.sum(1)[:, None])


def test_boxes_around_connected_parts() -> None:
    map_ = torch.zeros(6, 8)
    map_[1, 1], map_[2, 2], map_[0, 6], map_[5, 7] = 1.0, 0.7, 0.6, 0.3  # a diagonal counts as connected
    expected = torch.zeros(6, 8)
    expected[1:3, 1:3], expected[0, 6] = 1, 1
    assert torch.equal(
        box_masks(torch.stack([map_, torch.zeros(6, 8)]), 0.4), torch.stack([expected, torch.zeros(6, 8)])
    )


def test_spread_against_a_loop(settings_of: Callable[..., ClipEsConfig]) -> None:
    settings, cam, attention = settings_of(sinkhorn_iterations=2), torch.rand(2, 2, 3), torch.rand(6, 6)
    matrix = sinkhorn(attention, 2).double()
    symmetric = (matrix + matrix.T) / 2
    found = spread_by_attention(cam, attention, settings)
    for n in range(2):
        inside = box_masks(cam, settings.box_threshold)[n].flatten()
        for p in range(6):
            total = 0.0
            for q in range(6):
                weight = sum(float(symmetric[p, r] * symmetric[r, q]) for r in range(6))
                total += weight * float(inside[q] * cam[n].flatten()[q])
            assert float(found[n].flatten()[p]) == pytest.approx(total, rel=1e-4)


@pytest.fixture
def tiny_clip(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """open_clip gives the tiny model; what is tokenised is kept."""
    said: list[str] = []

    def tokenizer(texts: list[str]) -> Tensor:
        said.extend(texts)
        return open_clip.get_tokenizer("ViT-B-32")(texts)

    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: tiny())
    monkeypatch.setattr(clip_es, "open_clip", _Namespace(open_clip, get_tokenizer=lambda _: tokenizer))
    return said


class _Namespace:
    def __init__(self, module: Any, **changed: Any) -> None:
        self.__dict__.update({name: getattr(module, name) for name in ("create_model", "list_models")} | changed)


def test_texts_come_from_the_class_names(settings_of: Callable[..., ClipEsConfig], tiny_clip: list[str]) -> None:
    host = build_clip_es_host(settings_of(), ["potted_plant", "cat"])
    assert tiny_clip == [f"a clean origami {name}." for name in ("potted plant", "cat", "sky", "sea")]
    torch.testing.assert_close(host.text.norm(dim=-1), torch.ones(4))
    build_clip_es_host(settings_of(names=["plant", "kitten"], template="a {}"), ["potted_plant", "cat"])
    assert tiny_clip[4:6] == ["a plant", "a kitten"]
    with pytest.raises(UserError, match=r"hosts\.clip_es\.names: 1 for 2 classes \(dog, cat\)"):
        build_clip_es_host(settings_of(names=["a"]), ["dog", "cat"])


def test_a_checkpoint_brings_the_texts(settings_of: Callable[..., ClipEsConfig], tiny_clip: list[str]) -> None:
    host = build_clip_es_host(settings_of(), NAMES)
    said = len(tiny_clip)
    other = build_clip_es_host(settings_of(), NAMES, weights="none")
    assert len(tiny_clip) == said, "no text is encoded again"
    other.load_state_dict(host.state_dict())
    images = pictures(32, 32)
    assert torch.equal(other.eval()(images, LABELS).cam, host.eval()(images, LABELS).cam)


def test_encode_texts_is_open_clips() -> None:
    model, tokenizer = tiny(), open_clip.get_tokenizer("ViT-B-32")
    with torch.no_grad():
        expected = F.normalize(model.encode_text(tokenizer(["a cat", "a dog"])), dim=-1)
    torch.testing.assert_close(encode_texts(model, tokenizer, ["a cat", "a dog"]), expected)


def test_state_dicts(tmp_path: Path) -> None:
    stored = {key: torch.randn_like(value).half() for key, value in tiny().state_dict().items()}
    openai = stored | {name: torch.tensor(64) for name in ("input_resolution", "context_length", "vocab_size")}
    model = tiny()
    fill(model, openai, "x")
    assert all(torch.equal(value, stored[key].float()) for key, value in model.state_dict().items())
    with pytest.raises(UserError, match=r"x lacks 1 tensors of the network, such as visual\.proj"):
        fill(tiny(), {k: v for k, v in stored.items() if k != "visual.proj"}, "x")
    with pytest.raises(UserError, match=r"x: visual\.proj has the shape \(2,\), the network's is \(64, 32\)"):
        fill(tiny(), stored | {"visual.proj": torch.zeros(2)}, "x")


def test_published_names_are_open_clips(settings_of: Callable[..., ClipEsConfig]) -> None:
    """OpenAI's ViT-B/16: the names and shapes of its image encoder, from the rule."""
    expected = {
        "class_embedding": (768,),
        "positional_embedding": (197, 768),
        "proj": (768, 512),
        "conv1.weight": (768, 3, 16, 16),
        **{f"{norm}.{kind}": (768,) for norm in ("ln_pre", "ln_post") for kind in ("weight", "bias")},
    }
    for n in range(12):
        block = f"transformer.resblocks.{n}"
        expected |= {f"{block}.{norm}.{kind}": (768,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
        expected |= {f"{block}.attn.in_proj_weight": (2304, 768), f"{block}.attn.in_proj_bias": (2304,)}
        expected |= {f"{block}.attn.out_proj.weight": (768, 768), f"{block}.attn.out_proj.bias": (768,)}
        expected |= {f"{block}.mlp.c_fc.weight": (3072, 768), f"{block}.mlp.c_fc.bias": (3072,)}
        expected |= {f"{block}.mlp.c_proj.weight": (768, 3072), f"{block}.mlp.c_proj.bias": (768,)}
    host = build_clip_es_host(settings_of(backbone="ViT-B-16-quickgelu"), NAMES, weights="none")
    assert {key: tuple(value.shape) for key, value in host.visual.state_dict().items()} == expected


def test_nothing_is_trained(
    settings: Callable[..., Config], tiny_dataset: Dataset, tiny_clip: list[str], tmp_path: Path
) -> None:
    def train(**keys: Any) -> Any:
        config = settings(**{"host": "clip_es"} | keys)
        run = Run(0, tmp_path / "work", torch.device("cpu"), workers=0)
        records = tiny_dataset.split("train")
        return train_classifier(tiny_dataset, records, config.chosen_host, config.cpal, run, diagnose=lambda *_: {})

    host, learner, rows = train()
    assert isinstance(host, ClipEsHost) and rows == [] and not (tmp_path / "work").exists()
    assert learner.bank.entries.shape[-1] == 64
    with pytest.raises(UserError, match=r"host: clip_es is not trained, and no projection learns"):
        train(**{"cpal.projection": 8, "cpal.detach_target": False})


def test_unknown_models_are_refused(settings_of: Callable[..., ClipEsConfig]) -> None:
    with pytest.raises(UserError, match=r"hosts\.clip_es\.backbone 'ViT-Z': unknown to open_clip"):
        build_clip_es_host(settings_of(backbone="ViT-Z"), NAMES)
    with pytest.raises(UserError, match=r"template 'a cat' has no \{\}"):
        settings_of(template="a cat")
