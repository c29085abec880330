"""The work of each stage that runs a network, as functions to be called again and again; random weights and images."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from cpal.method.classifier import Classifier


class Sizes(NamedTuple):
    """Image sides, batches and bank length; the paper's, or tiny ones. `seconds` are spent on each measurement."""

    cam_side: int = 512
    cam_batch: int = 16
    mask_side: int = 321
    mask_batch: int = 10
    bank: int = 1000
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    seconds: float = 2.0


TINY = Sizes(64, 2, 65, 2, 60, (1.0, 2.0), seconds=0)


class Work(NamedTuple):
    """A stage's step; `images` are those of one call."""

    stage: str
    network: str
    images: int
    call: Callable[[], Any]


def random_classifier(classes: int, sizes: Sizes, device: torch.device) -> "Classifier":
    """ResNet-50 with CPAL's settings; its batch norms are fitted to random images, so that numbers stay in range."""
    from benchmarks.inputs import classifier

    trained = classifier("resnet50", classes, self_weight=1.0, bank_length=sizes.bank)
    calibrate(trained.host)
    for module in (trained.host, trained.learner, trained.taught):
        assert module is not None
        module.to(device)
    return trained


@torch.no_grad()
def calibrate(network: nn.Module) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    backbone: Any = network.backbone
    backbone(torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8))
    for norm in norms:
        norm.eval()
        norm.momentum = 0.1


class DeepLab(nn.Module):
    """The network of train_segmentation without MMSegmentation: backbone, and a sum of dilated convolutions."""

    def __init__(self, classes: int) -> None:
        from cpal.networks.backbones import build_backbone

        super().__init__()
        self.backbone = build_backbone("resnet101", weights="none", output_stride=8)
        self.branches = nn.ModuleList(nn.Conv2d(2048, classes, 3, padding=d, dilation=d) for d in (6, 12, 18, 24))

    def forward(self, image: Tensor) -> Tensor:
        features = self.backbone(image)[-1]
        return torch.stack([branch(features) for branch in self.branches]).sum(dim=0)


def images(batch: int, height: int, width: int, device: torch.device) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=draw).to(device)


def stepper(modules: list[nn.Module], loss: Callable[[], Tensor]) -> Callable[[], Any]:
    """One step of training: loss, backward pass, SGD with momentum (its rate is 0, so that the numbers stay)."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        optimizer.step()

    return step


def classifier_works(classes: int, sizes: Sizes, device: torch.device) -> Iterator[Work]:
    """train_cam, fit_prototypes and make_cams of IRN's network on ResNet-50, with `classes` foreground classes."""
    from benchmarks.inputs import image_labels
    from cpal.data.views import image_views
    from cpal.method.make_cams import localize

    trained = random_classifier(classes, sizes, device)
    host: Any = trained.host
    learner: Any = trained.learner
    side, batch = sizes.cam_side, sizes.cam_batch
    pixels, label = images(batch, side, side, device), image_labels(batch, classes).to(device)

    def loss() -> Tensor:
        output, losses = host.training_step(pixels, label, pixels[:, 0])
        features = [output.features[stage - 1] for stage in learner.settings.features]
        _, self_loss = learner(features, output.cam, label, probability=output.logits.detach().sigmoid())
        return losses["loss_classification"] + self_loss

    step = stepper([host], loss)

    def train() -> None:
        host.train(), learner.train()
        step()
        host.eval(), learner.eval()

    yield Work("train_cam", f"ResNet-50 at {side}, batch {batch}", batch, train)
    views = image_views(images(1, side * 3 // 4, side, torch.device("cpu"))[0], sizes.scales, flip=True, long_side=None)
    one, middle = label[1:2], len(sizes.scales) // 2 - 1

    @torch.no_grad()
    def fit() -> None:
        features, cam, logits = trained.look(views[middle], one)
        learner.enqueue(learner.instances(features, cam, one), logits.sigmoid())

    name = f"ResNet-50, long side {side}"
    yield Work("fit_prototypes, one image", name, 1, fit)
    yield Work(
        *("make_cams, one image", f"{name}, {len(sizes.scales)} scales and mirror images", 1),
        lambda: localize(trained, one, (side * 3 // 4, side), views),
    )
    yield Work("fit_prototypes, k-means", f"bank of {sizes.bank}", 0, learner.cluster)


def segmentation_works(classes: int, sizes: Sizes, device: torch.device) -> Iterator[Work]:
    """train_segmentation and predict_segmentation of DeepLabV2 on ResNet-101, with `classes` and background."""
    import torch.nn.functional as F

    network = DeepLab(classes + 1)
    calibrate(network)
    network = network.to(device).eval()
    side, batch = sizes.mask_side, sizes.mask_batch
    pixels = images(batch, side, side, device)
    mask = torch.randint(0, classes + 1, (batch, side, side), device=device)

    def loss() -> Tensor:
        logits = F.interpolate(network(pixels).float(), size=(side, side), mode="bilinear", align_corners=False)
        return F.cross_entropy(logits, mask)

    @torch.no_grad()
    def predict() -> Tensor:
        total = torch.zeros(classes + 1, side, side, device=device)
        for scale in sizes.scales:
            size = (round(side * scale), round(side * scale))
            view = F.interpolate(pixels[:1].float(), size=size)
            logits = network(torch.cat([view, view.flip(-1)]))
            straight, mirrored = F.interpolate(logits.float(), size=(side, side), mode="bilinear").softmax(dim=1)
            total += straight + mirrored.flip(-1)
        return total.argmax(dim=0).to(torch.uint8).cpu()

    name = f"ResNet-101 at {side}"
    yield Work("train_segmentation", f"{name}, batch {batch}", batch, stepper([network], loss))
    yield Work("predict_segmentation, one image", f"{name}, {len(sizes.scales)} scales and mirror images", 1, predict)
