"""DeepLabV2 on the paper's two backbones, the converter of published weights, the CRF at test, the server's archive."""

import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torchvision.models import ResNet

from cpal.data.masks import VOID, write_mask
from cpal.errors import UserError
from cpal.maps.crf import refine_probabilities
from cpal.networks.backbones import _caffe_resnet101, build_backbone
from cpal.segmentation.deeplab import SegmentationLoss, build_segmentor
from cpal.segmentation.published_weights import convert
from cpal.segmentation.voc_server import FOLDER, write_submission
from cpal.settings.config import Config, SegmentationConfig
from stages import export_voc

Settings = Callable[..., Config]
TRUNK = 42_500_160  # of ResNet-101 without its classifier, as torchvision documents it: 44,549,160 - 1000 * 2049


@pytest.fixture
def paper(settings: Settings) -> Callable[..., SegmentationConfig]:
    common = {
        "segmentation.weights": "none",
        "segmentation.output_stride": 8,
        "segmentation.dilations": [6, 12, 18, 24],
        "segmentation.freeze_stage": 0,
    }
    return lambda name, **keys: settings(**common | {"segmentation.backbone": name} | keys).segmentation


def wide_parameters() -> int:
    """Of Wide ResNet-38 without its classifier, from the widths in its paper."""

    def unit(a: int, b: int, c: int, *, shortcut: bool) -> int:
        return 2 * a + 9 * a * b + 2 * b + 9 * b * c + (a * c if shortcut else 0)

    total = 27 * 64
    for before, width, units in ((64, 128, 3), (128, 256, 3), (256, 512, 6)):
        total += unit(before, width, width, shortcut=True) + (units - 1) * unit(width, width, width, shortcut=False)
    total += unit(512, 512, 1024, shortcut=True) + 2 * unit(1024, 512, 1024, shortcut=False)
    for before, width in ((1024, 2048), (2048, 4096)):
        quarter, half = width // 4, width // 2
        total += 2 * before + before * quarter + 2 * quarter + 9 * quarter * half + 2 * half + half * width
        total += before * width
    return total + 2 * 4096


@pytest.mark.parametrize("head", ["deeplabv2", "deeplabv3plus"])
def test_the_loss_is_mmsegmentations(settings: Settings, head: str) -> None:
    section = settings(**{"segmentation.head": head, "segmentation.weights": "none"}).segmentation
    decoder = build_segmentor(section, 4).decode_head
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 8, 8, generator=generator)
    masks = torch.randint(0, 4, (2, 1, 64, 64), generator=generator)
    masks[:, :, :9] = VOID
    samples = [SegDataSample(gt_sem_seg=PixelData(data=mask)) for mask in masks]
    (found,) = decoder.loss_by_feat(logits, samples).values()
    torch.testing.assert_close(found, BaseDecodeHead.loss_by_feat(decoder, logits, samples)["loss_ce"])
    enlarged = F.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, F.cross_entropy(enlarged, masks[:, 0], ignore_index=VOID))


@pytest.mark.parametrize(
    ("name", "width", "trunk"),
    [("resnet101", 2048, TRUNK), ("resnet101_caffe", 2048, TRUNK), ("wide_resnet38", 4096, wide_parameters())],
)
@pytest.mark.parametrize("num_classes", [21, 81])
def test_parameters_and_output_stride(
    paper: Callable[..., SegmentationConfig], name: str, width: int, trunk: int, num_classes: int
) -> None:
    with torch.device("meta"):
        model = build_segmentor(paper(name), num_classes)
    head = 4 * (9 * width * num_classes + num_classes)
    assert sum(p.numel() for p in model.backbone.parameters()) == trunk
    assert sum(p.numel() for p in model.decode_head.parameters()) == head
    maps = model.backbone.body(torch.zeros(1, 3, 321, 321, device="meta"))
    shapes = [map_.shape for map_ in (maps.values() if isinstance(maps, dict) else maps)]
    assert [shape[1] for shape in shapes] == model.backbone.channels and shapes[-1] == (1, width, 41, 41)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet101", "resnet101_caffe", "wide_resnet38"])
def test_forward_and_backward_at_321(paper: Callable[..., SegmentationConfig], name: str) -> None:
    loss = SegmentationLoss(build_segmentor(paper(name), 21)).train()
    images, masks = torch.randint(0, 256, (1, 3, 321, 321)), torch.randint(0, 21, (1, 321, 321))
    (value,) = loss(images, torch.zeros(1, 20), masks, masks == VOID).values()
    value.backward()
    learned = [p for p in loss.parameters() if p.requires_grad]
    assert torch.isfinite(value) and all(p.grad is not None and torch.isfinite(p.grad).all() for p in learned)


def published(num_classes: int | None = 21, prefix: str = "") -> dict[str, Tensor]:
    """DeepLabV2's ResNet-101 with deeplab-pytorch's names and the shapes of Caffe's, small numbers in each tensor."""
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(name: str, out: int, channels: int, side: int) -> None:
        shapes[f"{name}.conv.weight"] = (out, channels, side, side)
        shapes.update({f"{name}.bn.{key}": (out,) for key in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.bn.num_batches_tracked"] = ()

    unit("layer1.conv1", 64, 3, 7)
    channels = 64
    for layer, blocks, width in ((2, 3, 64), (3, 4, 128), (4, 23, 256), (5, 3, 512)):
        for n in range(1, blocks + 1):
            block = f"layer{layer}.block{n}"
            unit(f"{block}.reduce", width, channels, 1)
            unit(f"{block}.conv3x3", width, width, 3)
            unit(f"{block}.increase", 4 * width, width, 1)
            if n == 1:
                unit(f"{block}.shortcut", 4 * width, channels, 1)
            channels = 4 * width
    if num_classes is not None:
        for n in range(4):
            shapes[f"aspp.c{n}.weight"] = (num_classes, 2048, 3, 3)
            shapes[f"aspp.c{n}.bias"] = (num_classes,)
    generator = torch.Generator().manual_seed(0)
    return {
        prefix + name: (torch.rand(shape, generator=generator) + 0.5) * 0.05 if shape else torch.tensor(7)
        for name, shape in shapes.items()
    }


def test_published_names_map_one_to_one(paper: Callable[..., SegmentationConfig]) -> None:
    stored = published(prefix="base.")
    converted = convert(stored, "x")
    body = [key for key in stored if ".aspp." not in key]
    assert len(converted) == len(body) and len({id(value) for value in converted.values()}) == len(body)
    network = build_segmentor(paper("resnet101_caffe"), 21).backbone.body
    ours = {f"backbone.{key}": value.shape for key, value in network.state_dict().items()}
    assert {key: value.shape for key, value in converted.items()} == ours


def test_converted_file_fills_the_backbone(
    paper: Callable[..., SegmentationConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.convert_weights import main

    stored = published(None)
    torch.save({"state_dict": stored}, tmp_path / "in.pth")
    main(tmp_path / "in.pth", tmp_path / "out.pth")
    body = build_backbone("resnet101_caffe", weights=str(tmp_path / "out.pth"), output_stride=8).body.state_dict()
    assert torch.equal(body["conv1.weight"], stored["layer1.conv1.conv.weight"].flip(1)), "BGR to RGB"
    assert torch.equal(body["layer3.22.conv2.weight"], stored["layer4.block23.conv3x3.conv.weight"])
    assert torch.equal(body["layer4.0.downsample.1.running_var"], stored["layer5.block1.shortcut.bn.running_var"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer4.block23.reduce.conv.weight": None}, "lacks 1 tensors, such as layer4.block23.reduce.conv.weight"),
        ({"layer4.block24.reduce.conv.weight": torch.zeros(1)}, "has 1 that DeepLab's ResNet-101 has not, such as"),
    ],
)
def test_other_files_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    stored = {key: value for key, value in (published() | change).items() if value is not None}
    with pytest.raises(UserError, match=message):
        convert(stored, "x")


@torch.no_grad()
def test_caffes_bottlenecks_by_hand() -> None:
    """Layer 2's first block strides in its 1x1, layers 3 and 4 are dilated from their first block on."""
    network = _caffe_resnet101().eval()
    assert isinstance(network, ResNet)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(std=0.1), module.running_var.uniform_(0.5, 1.5)

    def norm(x: Tensor, layer: nn.BatchNorm2d) -> Tensor:
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)

    for layer, stride, dilation in ((network.layer2, 2, 1), (network.layer3, 1, 2), (network.layer4, 1, 4)):
        block = layer[0]
        x = torch.rand(1, block.conv1.in_channels, 9, 12)
        y = F.relu(norm(F.conv2d(x, block.conv1.weight, stride=stride), block.bn1))
        y = F.relu(norm(F.conv2d(y, block.conv2.weight, padding=dilation, dilation=dilation), block.bn2))
        y = norm(F.conv2d(y, block.conv3.weight), block.bn3)
        shortcut = norm(F.conv2d(x, block.downsample[0].weight, stride=stride), block.downsample[1])
        torch.testing.assert_close(block(x), F.relu(y + shortcut))
    assert network.maxpool(torch.zeros(1, 1, 161, 161)).shape[-1] == 81, "sizes are rounded up"


@pytest.mark.parametrize("name", ["resnet101_caffe", "wide_resnet38"])
def test_what_is_not_served_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="imagenet for .*give the path of a file"):
        build_backbone(name, weights="imagenet", output_stride=8)
    with pytest.raises(UserError, match="output stride 8, not 16"):
        build_backbone(name, weights="none", output_stride=16)


class TestCrfAtTest:
    def crf(self, settings: Settings, **keys: float) -> np.ndarray:
        """A probability that ends two pixels too far right of where the picture's colors change."""
        image = np.full((24, 40, 3), 250, np.uint8)
        image[:, :18] = (110, 100, 95)  # a little less than the mean, where casting would wrap around
        probability = np.full((30, 24, 40), 0.001, np.float32)
        probability[0], probability[7] = 0.3, 0.65
        probability[0, :, 20:], probability[7, :, 20:] = 0.65, 0.3
        config = settings(**{"final_test.crf.iterations": 10} | {f"final_test.crf.{k}": v for k, v in keys.items()})
        refined = refine_probabilities(image, probability, config.final_test.crf)
        assert refined.shape == probability.shape and refined.dtype == np.float32
        np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-5)
        assert not np.delete(refined, (0, 7), axis=0).any(), "a class that is nowhere possible came in"
        return refined.argmax(axis=0)

    def test_labels_end_where_the_colors_do(self, settings: Settings) -> None:
        labels = self.crf(settings)
        assert (labels[:, :18] == 7).all() and (labels[:, 18:] == 0).all()

    def test_without_pairs_it_is_the_argmax(self, settings: Settings) -> None:
        labels = self.crf(settings, gaussian_compat=0.0, bilateral_compat=0.0)
        assert (labels[:, :20] == 7).all() and (labels[:, 20:] == 0).all()

    def test_one_possible_class_is_everywhere(self, settings: Settings) -> None:
        probability = np.full((4, 5, 6), 0.001, np.float32)
        probability[2] = 0.997
        found = refine_probabilities(np.zeros((5, 6, 3), np.uint8), probability, settings().final_test.crf)
        assert found.shape == probability.shape and (found[2] == 1).all() and found.sum() == 30

    def test_of_many_classes_the_likeliest_takes_part_however_small(self, settings: Settings) -> None:
        image = np.zeros((5, 6, 3), np.uint8)
        level = np.full((150, 5, 6), 1 / 150, np.float32)  # no class reaches 1 %
        assert np.isfinite(refine_probabilities(image, level, settings().final_test.crf)).all()
        level[0], level[0, 2, 3], level[7, 2, 3] = 0.9, 0.0, 0.009
        crf = settings(**{"final_test.crf.gaussian_compat": 0.0, "final_test.crf.bilateral_compat": 0.0}).final_test.crf
        found = refine_probabilities(image, level, crf).argmax(axis=0)
        assert found[2, 3] == 7 and (found == 0).sum() == 29


class TestVocServer:
    @pytest.fixture
    def masks(self, tmp_path: Path) -> Path:
        for n, image_id in enumerate(("2008_000002", "2008_000001")):
            write_mask(tmp_path / "masks" / f"{image_id}.png", np.full((6, 7), 20 * n, np.uint8))
        return tmp_path / "masks"

    def test_archive_has_the_servers_layout_and_the_same_bytes(self, masks: Path, tmp_path: Path) -> None:
        ids = ["2008_000001", "2008_000002"]
        write_submission(tmp_path / "a.tar", masks, ids)
        write_submission(tmp_path / "b.tar", masks, ids[::-1])
        assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
        with tarfile.open(tmp_path / "a.tar") as archive:
            assert archive.getnames() == [f"results/VOC2012/Segmentation/comp5_test_cls/{name}.png" for name in ids]
            member = archive.extractfile(f"{FOLDER}/2008_000001.png")
            assert member is not None and member.read() == (masks / "2008_000001.png").read_bytes()

    @pytest.mark.parametrize(
        ("ids", "message"),
        [
            (["2008_000001", "2008_000002", "2008_000003"], "lacks 1 of 3 images, such as 2008_000003"),
            (["2008_000001"], "has 1 that the list has not, such as 2008_000002"),
            ([], "has 2 that the list has not"),
        ],
    )
    def test_another_list_is_refused(self, masks: Path, tmp_path: Path, ids: list[str], message: str) -> None:
        with pytest.raises(UserError, match=message):
            write_submission(tmp_path / "a.tar", masks, ids)
        assert not (tmp_path / "a.tar").exists()

    def test_no_list_and_no_mask_make_no_archive(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="the list of images is empty; label exactly the listed"):
            write_submission(tmp_path / "a.tar", tmp_path, [])
        assert not (tmp_path / "a.tar").exists()

    def test_list_with_a_mark_of_its_encoding_and_an_id_twice(self, masks: Path, tmp_path: Path) -> None:
        (tmp_path / "ids.txt").write_text("\ufeff2008_000001\n2008_000002\n2008_000001\n", encoding="utf-8")
        export_voc.main(masks, tmp_path / "ids.txt", tmp_path / "a.tar")
        with tarfile.open(tmp_path / "a.tar") as archive:
            assert [Path(name).stem for name in archive.getnames()] == ["2008_000001", "2008_000002"]

    def test_list_that_is_no_text_is_refused(self, masks: Path, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="2008_000001.png: no text"):
            export_voc.main(masks, masks / "2008_000001.png", tmp_path / "a.tar")
        assert not (tmp_path / "a.tar").exists()

    @pytest.mark.parametrize("label", [21, VOID])
    def test_labels_that_voc_has_not_are_refused(self, masks: Path, tmp_path: Path, label: int) -> None:
        write_mask(masks / "2008_000001.png", np.full((6, 7), label, np.uint8))
        with pytest.raises(UserError, match=f"holds the label {label}; VOC's are 0 to 20"):
            write_submission(tmp_path / "a.tar", masks, ["2008_000001", "2008_000002"])
        assert [path.name for path in tmp_path.iterdir()] == ["masks"]
