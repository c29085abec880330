"""DeepLabV2: head and losses against plain torch, training that learns, repeats itself and resumes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mmengine
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmseg.evaluation import IoUMetric
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from torch import Tensor, nn

from cpal.data.dataset import Dataset
from cpal.data.masks import VOID, LabelMaps, read_mask
from cpal.data.views import pyramid_loader
from cpal.errors import UserError
from cpal.evaluation.metrics import class_iou, confusion_matrix
from cpal.segmentation.deeplab import (
    BalancedCrossEntropy,
    SegmentationLoss,
    Segmentor,
    build_segmentor,
    probabilities,
    train_segmentation,
)
from cpal.segmentation.heads import DeepLabV2Head
from cpal.settings.config import Config, SegmentationConfig
from cpal.training import loop
from cpal.training.curves import TrainingLog
from cpal.training.loop import Run

Settings = Callable[..., Config]
CPU = torch.device("cpu")
CROSS_ENTROPY = {"type": CrossEntropyLoss, "avg_non_ignore": True}


@pytest.fixture(scope="module")
def small(settings: Settings) -> SegmentationConfig:
    return settings().segmentation


def trained(
    dataset: Dataset, settings: SegmentationConfig, folder: Path, *, workers: int = 0, seed: int = 0
) -> Segmentor:
    records, run = dataset.split("train"), Run(seed, folder, CPU, workers)
    return train_segmentation(dataset, records, LabelMaps(dataset.mask_root / "masks", "any"), settings, run)


def head(channels: int = 5, classes: int = 3, dilations: tuple[int, ...] = (1, 2, 3, 4)) -> DeepLabV2Head:
    return DeepLabV2Head(channels, num_classes=classes, dilations=dilations, loss_decode=CROSS_ENTROPY)


class TestHead:
    def test_is_the_sum_of_dilated_convolutions(self) -> None:
        module, features = head(), torch.randn(2, 5, 9, 7)
        expected = torch.zeros(2, 3, 9, 7)
        for branch, dilation in zip(module.branches, (1, 2, 3, 4), strict=True):
            assert isinstance(branch, nn.Conv2d)
            expected += F.conv2d(features, branch.weight, branch.bias, padding=dilation, dilation=dilation)
        torch.testing.assert_close(module([torch.zeros(1), features]), expected)

    def test_has_these_parameters_and_no_other(self) -> None:
        module = head(channels=2048, classes=21, dilations=(6, 12, 18, 24))
        assert sum(p.numel() for p in module.parameters()) == 4 * (2048 * 21 * 9 + 21)
        assert [branch.dilation for branch in module.branches] == [(6, 6), (12, 12), (18, 18), (24, 24)]

    def test_is_known_to_mmsegmentation_by_name(self) -> None:
        assert MODELS.get("DeepLabV2Head") is DeepLabV2Head


class TestLoss:
    @pytest.fixture
    def logits(self) -> torch.Tensor:
        return torch.randn(2, 3, 4, 5)

    def test_balanced_is_the_mean_of_two_means(self, logits: torch.Tensor) -> None:
        label = torch.tensor([0, 0, 0, 1, 2, VOID, 0, VOID, 1, 0] * 4).view(2, 4, 5)
        background: list[torch.Tensor] = []
        foreground: list[torch.Tensor] = []
        for b in range(2):
            for y in range(4):
                for x in range(5):
                    value, log = int(label[b, y, x]), logits[b, :, y, x].log_softmax(0)
                    if value != VOID:
                        (background if value == 0 else foreground).append(-log[value])
        expected = (torch.stack(background).mean() + torch.stack(foreground).mean()) / 2
        torch.testing.assert_close(BalancedCrossEntropy()(logits, label), expected)

    @pytest.mark.parametrize("value", [0, 2, VOID])
    def test_balanced_without_one_of_the_kinds(self, logits: torch.Tensor, value: int) -> None:
        label = torch.full((2, 4, 5), value)
        loss = BalancedCrossEntropy()(logits, label)
        if value == VOID:
            assert loss == 0
        else:
            torch.testing.assert_close(loss, F.cross_entropy(logits, label) / 2)

    @pytest.mark.parametrize("balanced", [False, True])
    def test_of_the_whole_model_against_plain_torch(self, small: SegmentationConfig, balanced: bool) -> None:
        settings = small.model_copy(update={"balanced_loss": balanced, "weights": "none"})
        model = SegmentationLoss(build_segmentor(settings, 4)).eval()
        image = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
        mask = torch.randint(0, 4, (2, 48, 48))
        mask[:, :9] = VOID
        losses = model(image, torch.zeros(2, 3), mask, mask == VOID)
        logits = F.interpolate(
            model.segmentor.decode_head(model.segmentor.backbone(image)), (48, 48), mode="bilinear", align_corners=False
        )
        expected = (
            BalancedCrossEntropy()(logits, mask) if balanced else F.cross_entropy(logits, mask, ignore_index=VOID)
        )
        (value,) = losses.values()
        torch.testing.assert_close(value, expected)


def test_resnet101_is_the_papers_at_stride_eight(small: SegmentationConfig) -> None:
    settings = small.model_copy(
        update={"backbone": "resnet101", "weights": "none", "output_stride": 8, "dilations": (6, 12, 18, 24)}
    )
    model = build_segmentor(settings, 21).eval()
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, 65, 81), mode="tensor")
    assert logits.shape == (1, 21, 9, 11)
    norms = [m for m in model.train().modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)


class TestDeepLabV3PlusHead:
    @pytest.fixture
    def model(self, small: SegmentationConfig) -> Segmentor:
        settings = {"weights": "none", "head": "deeplabv3plus", "head_channels": 32, "dilations": (2, 3)}
        return build_segmentor(small.model_copy(update=settings), 5).eval()

    def test_sees_the_second_stage(self, model: Segmentor) -> None:
        """Maps at an eighth of the image, and gradients that reach the second stage past the other stages."""
        stages = [stage.detach().requires_grad_() for stage in model.backbone(torch.rand(1, 3, 64, 80))]
        logits = model.decode_head(stages)
        assert logits.shape == (1, 5, 8, 10)
        second, last = torch.autograd.grad(logits.abs().sum(), (stages[1], stages[-1]))
        assert second.abs().sum() > 0 and last.abs().sum() > 0

    def test_against_plain_torch(self, model: Segmentor) -> None:
        second, last = torch.randn(2, 40, 8, 10), torch.randn(2, 320, 4, 5)
        weights = iter(model.decode_head.state_dict().values())
        final, final_bias = next(weights), next(weights)

        def normed(maps: Tensor) -> Tensor:
            """1x1 convolution as a matrix product, mean 0 and variance 1 in each of 16 groups, ReLU."""
            maps = torch.einsum("oc,bchw->bohw", next(weights).flatten(1), maps)
            groups = maps.reshape(2, 16, -1)
            groups = (groups - groups.mean(-1, keepdim=True)) / (
                groups.var(-1, correction=0, keepdim=True) + 1e-5
            ).sqrt()
            scale, shift = (next(weights).view(-1, 1, 1) for _ in range(2))
            return (groups.view_as(maps) * scale + shift).relu()

        def depthwise(maps: Tensor, dilation: int) -> Tensor:
            return F.conv2d(maps, next(weights), padding=dilation, dilation=dilation, groups=maps.shape[1])

        parts = [normed(last), normed(depthwise(last, 2)), normed(depthwise(last, 3))]
        whole = last.mean((2, 3)) @ next(weights).flatten(1).T + next(weights)
        parts.append(whole.relu()[:, :, None, None].expand_as(parts[0]))
        joined = F.interpolate(normed(torch.cat(parts, 1)), (8, 10), mode="bilinear")
        joined = torch.cat([joined, normed(second)], 1)
        for _ in range(2):
            joined = normed(depthwise(joined, 1))
        expected = torch.einsum("oc,bchw->bohw", final.flatten(1), joined) + final_bias.view(-1, 1, 1)
        torch.testing.assert_close(model.decode_head([None, second, None, last]), expected, atol=1e-4, rtol=1e-4)
        assert next(weights, None) is None

    def test_a_training_leaves_a_tenth_of_the_channels_out(self, model: Segmentor) -> None:
        """Of the last convolution's input; other ones at each step."""
        decoder = model.decode_head.train()
        decoder.conv_seg = nn.Identity()
        first, second = (decoder.cls_seg(torch.ones(400, 32, 1, 2)) == 0 for _ in range(2))
        for gone in (first, second):
            assert torch.equal(gone[..., 0], gone[..., 1])
            assert float(gone.float().mean()) == pytest.approx(0.1, abs=0.02)
        assert not torch.equal(first, second) and decoder.eval().cls_seg(torch.ones(9, 32, 1, 2)).all()


class TestImageHead:
    @pytest.fixture
    def model(self, small: SegmentationConfig) -> Segmentor:
        settings = small.model_copy(update={"weights": "none", "image_head": 0.1, "image_cut": 0.5})
        return build_segmentor(settings, 4).eval()

    def test_classes_below_the_cut_get_no_pixel(self, model: Segmentor) -> None:
        image = torch.randint(0, 256, (4, 3, 48, 64), dtype=torch.uint8)
        maps = model.backbone(image)
        layer = model.auxiliary_head.classify
        layer.bias.data = torch.tensor([-5.0, 5.0, -5.0])
        shown = (maps[-1].flatten(2).mean(2) @ layer.weight.T + layer.bias).sigmoid() >= 0.5
        assert 0 < shown.sum() < shown.numel()
        expected = model.decode_head(maps).exp()
        for index, n in (~shown).nonzero().tolist():
            expected[index, n + 1] = 0
        expected /= expected.sum(dim=1, keepdim=True)
        torch.testing.assert_close(model(image, mode="tensor").softmax(dim=1), expected)

    def test_learns_which_classes_the_crop_shows(self, model: Segmentor) -> None:
        image = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
        mask = torch.zeros(2, 48, 48, dtype=torch.int64)
        mask[0, :5], mask[1, 9:], mask[1, :2, :2] = VOID, 2, 3
        losses = SegmentationLoss(model)(image, torch.zeros(2, 3), mask, mask == VOID)
        logits = model.auxiliary_head(model.backbone(image))
        truth = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
        expected = -(truth * F.logsigmoid(logits) + (1 - truth) * F.logsigmoid(-logits)).mean()
        torch.testing.assert_close(losses["loss_image"], 0.1 * expected)
        assert set(losses) == {"loss_ce", "loss_image"}

    def test_learns_at_the_rate_of_new_layers(self, model: Segmentor, small: SegmentationConfig) -> None:
        _, new = loop._optimizer(SegmentationLoss(model), small).param_groups
        assert {id(p) for p in model.auxiliary_head.parameters()} <= {id(p) for p in new["params"]}


class TestTraining:
    def test_learns_the_masks_by_heart(
        self, tiny_dataset: Dataset, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delattr(mmengine.Config, "pretty_text")  # yapf would turn Ctrl-C into a SyntaxError
        config = settings(
            **{
                "segmentation.iterations": 80,
                "segmentation.checkpoint_interval": 80,
                "segmentation.momentum": 0.9,
                "segmentation.output_stride": 8,
                "segmentation.crop_size": 96,
                "segmentation.scale_range": [2.0, 2.5],
                "final_test.scales": [2.0],
                "segmentation.freeze_stage": 0,
                "segmentation.learning_rate": 0.01,
                "segmentation.head_learning_rate": 0.02,
                "segmentation.batch_size": 4,
                "segmentation.dilations": [1, 2],
                "segmentation.balanced_loss": True,
            }
        )
        segmentor = trained(tiny_dataset, config.segmentation, tmp_path)
        truth, found = [], []
        records, scales = tiny_dataset.split("train"), config.final_test.scales
        loader = pyramid_loader(tiny_dataset, records, scales=scales, flip=True, long_side=None, workers=0)
        for record, size, views in loader:
            truth.append(read_mask(tiny_dataset.mask_path(record)).ravel())
            found.append(probabilities(segmentor, size, views).argmax(dim=0).numpy().ravel())
        correct = np.concatenate(truth) == np.concatenate(found)
        assert correct.mean() > 0.8

    def test_does_the_same_again_with_any_number_of_workers(
        self, tiny_dataset: Dataset, small: SegmentationConfig, tmp_path: Path
    ) -> None:
        weights = [
            trained(tiny_dataset, small, tmp_path / str(i), workers=workers).state_dict()
            for i, workers in enumerate((0, 0, 2))
        ]
        for other in weights[1:]:
            assert all(torch.equal(value, other[key]) for key, value in weights[0].items())
        another = trained(tiny_dataset, small, tmp_path / "seed", seed=1).state_dict()
        assert any(not torch.equal(value, another[key]) for key, value in weights[0].items())

    @pytest.mark.parametrize(
        "changes", [{}, {"average": 0.6, "color_jitter": 0.3, "head": "deeplabv3plus", "image_head": 0.1}]
    )
    def test_resumes_to_the_bit(
        self,
        tiny_dataset: Dataset,
        small: SegmentationConfig,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        changes: dict[str, Any],
    ) -> None:
        small = small.model_copy(update=changes)
        whole = trained(tiny_dataset, small, tmp_path / "whole").state_dict()
        forward, calls = SegmentationLoss.forward, 0

        def fail_at_the_fourth_step(self: SegmentationLoss, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 4:
                raise KeyboardInterrupt
            return forward(self, *args, **kwargs)

        monkeypatch.setattr(SegmentationLoss, "forward", fail_at_the_fourth_step)
        with pytest.raises(KeyboardInterrupt):
            trained(tiny_dataset, small, tmp_path / "cut")
        resumed = trained(tiny_dataset, small, tmp_path / "cut").state_dict()
        assert calls == 6, "steps three and four ran again, steps one and two did not"
        assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
        curves = [sorted((tmp_path / name / "curves").rglob("*.tsv")) for name in ("whole", "cut")]
        assert curves[0] and [a.read_bytes() for a in curves[0]] == [b.read_bytes() for b in curves[1]]

    def test_average_is_the_running_mean_of_the_steps(
        self, tiny_dataset: Dataset, small: SegmentationConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[torch.Tensor] = []

        def note(self: TrainingLog, runner: Any, *args: Any, **kwargs: Any) -> None:
            steps.append(runner.model.segmentor.decode_head.branches[0].weight.detach().clone())

        monkeypatch.setattr(TrainingLog, "after_train_iter", note)
        model = trained(tiny_dataset, small.model_copy(update={"average": 0.6}), tmp_path)
        expected = steps[0]
        for step in steps[1:]:
            expected = 0.6 * expected + 0.4 * step
        torch.testing.assert_close(model.state_dict()["decode_head.branches.0.weight"], expected)
        assert not torch.equal(expected, steps[-1])

    def test_sees_no_ground_truth(self, tiny_dataset: Dataset, small: SegmentationConfig, tmp_path: Path) -> None:
        """Other masks in the folder given change what is learned; the data set's own masks are not opened."""
        empty = tmp_path / "masks"
        empty.mkdir()
        masks, run = LabelMaps(empty, "write_pseudo_masks"), Run(0, tmp_path, CPU, workers=0)
        with pytest.raises(UserError, match="no such file; run the write_pseudo_masks stage first"):
            train_segmentation(tiny_dataset, tiny_dataset.split("train"), masks, small, run)

    def test_the_head_learns_at_its_own_rate(self, small: SegmentationConfig) -> None:
        loss = SegmentationLoss(build_segmentor(small, 4))
        pretrained, new = loop._optimizer(loss, small).param_groups
        assert (pretrained["lr"], new["lr"]) == (small.learning_rate, small.head_learning_rate)
        assert {id(p) for p in new["params"]} == {id(p) for p in loss.segmentor.decode_head.parameters()}
        learned = {id(p) for p in loss.segmentor.backbone.parameters() if p.requires_grad}
        assert learned == {id(p) for p in pretrained["params"]} and learned

    @pytest.mark.parametrize(
        ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
    )
    def test_the_optimizer_is_the_one_that_the_setting_names(
        self, small: SegmentationConfig, name: str, kind: type
    ) -> None:
        loss = SegmentationLoss(build_segmentor(small, 4))
        optimizer = loop._optimizer(loss, small.model_copy(update={"optimizer": name, "weight_decay": 0.125}))
        assert type(optimizer) is kind and {group["weight_decay"] for group in optimizer.param_groups} == {0.125}

    def test_learns_from_the_records_alone(
        self, tiny_dataset: Dataset, small: SegmentationConfig, tmp_path: Path
    ) -> None:
        """Masks of two images are enough for a training on these two."""
        records = tiny_dataset.split("train", 2)
        for record in records:
            (tmp_path / f"{record.image_id}.png").write_bytes(tiny_dataset.mask_path(record).read_bytes())
        run = Run(0, tmp_path / "work", CPU, workers=0)
        train_segmentation(tiny_dataset, records, LabelMaps(tmp_path, "any"), small, run)


class TestPrediction:
    @pytest.fixture
    def model(self, small: SegmentationConfig) -> Segmentor:
        model = build_segmentor(small, 4, weights="none")
        nn.init.normal_(model.decode_head.branches[0].weight, std=1.0)
        return model

    @pytest.mark.parametrize("size", [(33, 47), (1, 40), (64, 65)])
    def test_has_the_images_size(self, model: Segmentor, size: tuple[int, int]) -> None:
        views = [torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8) for shape in (size, (20, 31))]
        found = probabilities(model, size, views)
        assert found.shape == (4, *size)
        torch.testing.assert_close(found.sum(dim=0), torch.ones(size))

    def test_is_the_mean_over_views_one_by_one(self, model: Segmentor) -> None:
        images = [torch.randint(0, 256, (3, side, side + 5), dtype=torch.uint8) for side in (40, 56)]
        total = torch.zeros(4, 45, 50)
        for image in images:
            for flipped in (False, True):
                view = image.flip(-1) if flipped else image
                logits = model.eval()(view[None], mode="tensor")
                map_ = F.interpolate(logits, (45, 50), mode="bilinear", align_corners=False)[0].softmax(0)
                total += map_.flip(-1) if flipped else map_
        found = probabilities(model, (45, 50), [torch.stack([image, image.flip(-1)]) for image in images])
        torch.testing.assert_close(found, total / 4, atol=1e-5, rtol=1e-4)

    def test_without_mirror_images(self, model: Segmentor) -> None:
        image = torch.randint(0, 256, (1, 3, 48, 48), dtype=torch.uint8)
        logits = model.eval()(image, mode="tensor")
        expected = F.interpolate(logits, (48, 48), mode="bilinear", align_corners=False)[0].softmax(0)
        torch.testing.assert_close(probabilities(model, (48, 48), [image]), expected, atol=1e-5, rtol=1e-4)


def test_miou_agrees_with_mmsegmentations() -> None:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 5, (3, 20, 30)), rng.integers(0, 5, (3, 20, 30))
    truth[:, :2] = VOID
    matrices, parts = [], []
    for label, prediction in zip(truth, found, strict=True):
        matrices.append(confusion_matrix(label, prediction, 5))
        parts.append(IoUMetric.intersect_and_union(torch.from_numpy(prediction), torch.from_numpy(label), 5, VOID))
    total = IoUMetric.total_area_to_metrics(*(sum(part) for part in zip(*parts, strict=True)), metrics=["mIoU"])
    np.testing.assert_allclose(class_iou(np.sum(matrices, axis=0)), 100 * total["IoU"], rtol=1e-5)
