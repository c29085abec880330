"""A trained classifier: what it sees of an image, its file, and the passes that fit its prototypes."""

import errno
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from test_taught_cam import Colors
from torch import Tensor

from cpal.data.dataset import Dataset
from cpal.data.images import read_image
from cpal.data.views import Views, pyramid_loader
from cpal.errors import UserError
from cpal.explain.neighbors import fitted
from cpal.hosts.build import build_host
from cpal.maps.cams import MAP_NAMES, CamFile, resize_maps, write_cam
from cpal.method.classifier import Classifier, load_classifier, weights_meta
from cpal.method.fit_prototypes import Former, fill_bank, fit_prototypes, load_bank, save_bank
from cpal.method.learner import ContextPrototypeLearner, build_learner
from cpal.method.make_cams import localize, write_cams
from cpal.method.taught_cam import TaughtCam
from cpal.networks.weights import load_weights, save_weights
from cpal.settings.config import Config

Settings = Callable[..., Config]
CPU = torch.device("cpu")
N = 3


def loader_of(dataset: Dataset, workers: int = 0, scales: tuple[float, ...] = (1.0,)) -> list[Views]:
    records = dataset.split("train")
    return list(pyramid_loader(dataset, records, scales=scales, flip=True, long_side=None, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_views_come_with_their_record(tiny_dataset: Dataset, workers: int) -> None:
    found = loader_of(tiny_dataset, workers, scales=(1.0, 0.5))
    assert [views.record for views in found] == tiny_dataset.split("train")
    for record, size, (whole, half) in found:
        assert size == (record.height, record.width) and isinstance(size, tuple)
        image = torch.from_numpy(read_image(tiny_dataset.image_path(record))).permute(2, 0, 1)
        assert torch.equal(whole, torch.stack([image, image.flip(-1)]))
        assert half.shape == (2, 3, round(size[0] / 2), round(size[1] / 2))


def test_looks_at_an_image_and_its_mirror_image(settings: Settings, tiny_dataset: Dataset) -> None:
    config = settings(**{"cpal.features": [4, 2]})
    host = build_host(config.chosen_host, tiny_dataset.classes).eval()
    learner = build_learner(host, N, config.cpal, seed=0)
    record, _, (view,) = loader_of(tiny_dataset)[2]
    label = Classifier(host, N).label(record)
    assert label.tolist() == [[1, 0, 1]] and label.dtype == torch.float32
    with torch.no_grad():
        features, cam, logits = Classifier(host, N, learner).look(view, label)
        nothing, same, _ = Classifier(host, N).look(view, label)
        straight, mirrored = (host(one[None], label) for one in view)
    assert nothing == [] and torch.equal(cam, same)
    assert_close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)
    assert_close(cam, (straight.cam + mirrored.cam.flip(-1)) / 2)
    assert_close(logits, (straight.logits + mirrored.logits) / 2)
    for found, stage in zip(features, (4, 2), strict=True):
        expected = (straight.features[stage - 1] + mirrored.features[stage - 1].flip(-1)) / 2
        assert_close(found, expected)


def test_comes_back_from_its_file(settings: Settings, tiny_dataset: Dataset, tmp_path: Path) -> None:
    config = settings(**{"cpal.projection": 4, "cpal.detach_target": False, "hosts.irn.weights": "none"})
    section, path = config.chosen_host, tmp_path / "classifier.safetensors"
    host = build_host(section, tiny_dataset.classes)
    learner = build_learner(host, N, config.cpal, seed=0)
    modules = {"host": host, "projections": learner.projections}
    save_weights(path, modules, weights_meta(section, tiny_dataset.classes))
    torch.manual_seed(1)
    loaded, empty = load_classifier(path, tiny_dataset.classes, section, config.cpal, seed=0, device=CPU)
    assert not loaded.training and not empty.training and not empty.bank.seen.any()
    stored, image = learner.state_dict(), torch.rand(1, 3, 64, 64) * 255
    assert all(torch.equal(value, stored[key]) for key, value in empty.state_dict().items())
    with torch.no_grad():  # the batch norm of the loaded network is folded
        found, expected = (network(image, torch.ones(1, N)).cam for network in (loaded, host.eval()))
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    without = section.model_copy(update={"weights": str(tmp_path / "gone.pth")})  # where the training started from
    load_classifier(path, tiny_dataset.classes, without, config.cpal, seed=0, device=CPU)
    for other, wrong in (({"output_stride": 32}, "output_stride"), ({"backbone": "resnet18"}, "backbone")):
        with pytest.raises(UserError, match=rf"made with other settings \({wrong}\)"):
            changed = section.model_copy(update=other | {"weights": "none"})
            load_classifier(path, tiny_dataset.classes, changed, config.cpal.model_copy(), seed=0, device=CPU)


def test_an_amn_of_other_dilations_is_refused(settings: Settings, tiny_dataset: Dataset, tmp_path: Path) -> None:
    """Its tensors have the same shapes."""
    config = settings(**{"host": "amn", "hosts.amn.weights": "none"})
    section, path = config.chosen_host, tmp_path / "classifier.safetensors"
    host = build_host(section, tiny_dataset.classes)
    learner = build_learner(host, N, config.cpal, seed=0)
    modules = {"host": host, "projections": learner.projections}
    save_weights(path, modules, weights_meta(section, tiny_dataset.classes))
    load_classifier(path, tiny_dataset.classes, section, config.cpal, seed=0, device=CPU)
    changed = section.model_copy(update={"dilations": (6, 12, 18, 24)})
    with pytest.raises(UserError, match=r"made with other settings \(dilations\)"):
        load_classifier(path, tiny_dataset.classes, changed, config.cpal, seed=0, device=CPU)


def learner_of(settings: Settings, **keys: object) -> ContextPrototypeLearner:
    return ContextPrototypeLearner(N, [3], settings(**keys).cpal, seed=0).eval()


@pytest.mark.parametrize("align", ["instance", "ema", "bank"])
def test_a_pass_from_a_file_goes_on_as_if_none_had_been_cut(
    settings: Settings, tiny_dataset: Dataset, tmp_path: Path, align: str
) -> None:
    """Nothing but the learner goes from one pass to the next."""
    loader = loader_of(tiny_dataset)
    whole = learner_of(settings, **{"cpal.align": align})
    states: list[dict[str, Tensor]] = []
    for number in range(2):
        fit_prototypes(Classifier(Colors(), N, whole), loader)
        states.append({key: value.clone() for key, value in whole.state_dict().items()})
        if number == 0:
            save_weights(tmp_path / "pass_1", {"learner": whole}, {})
    resumed = learner_of(settings, **{"cpal.align": align})
    load_weights(tmp_path / "pass_1", {"learner": resumed}, {}, stage="fit_prototypes")
    assert all(torch.equal(value, states[0][key]) for key, value in resumed.state_dict().items())
    fit_prototypes(Classifier(Colors(), N, resumed), loader)
    assert all(torch.equal(value, states[1][key]) for key, value in resumed.state_dict().items())
    assert not torch.equal(states[0]["context"], states[1]["context"]), "the second pass is refined by the first"


def test_a_pass_does_not_depend_on_the_order_of_the_images(settings: Settings, tiny_dataset: Dataset) -> None:
    loader = loader_of(tiny_dataset)
    for align in ("instance", "ema", "bank"):
        learner = learner_of(settings, **{"cpal.align": align})
        classifier = Classifier(Colors(), N, learner)
        fit_prototypes(classifier, loader)
        banks = []
        for views in (loader, list(loader)[::-1]):
            fill_bank(classifier, views)
            banks.append([learner.bank.entries[k, : learner.bank.seen[k]].clone() for k in range(N + 1)])
        assert all(torch.equal(one, other.flip(0)) for one, other in zip(*banks, strict=True)), align


def test_a_pass_takes_no_part_of_a_training(settings: Settings, tiny_dataset: Dataset) -> None:
    """It is in evaluation mode, whatever was before, and measures a running shift anew, over the whole bank."""
    host, modes = Colors().train(), list[bool]()
    host.register_forward_hook(lambda module, *_: modes.append(module.training))
    shifts = []
    for align in ("ema", "bank"):
        learner = learner_of(settings, **{"cpal.align": align, "cpal.refinements": 0}).train()
        fit_prototypes(Classifier(host, N, learner), loader_of(tiny_dataset))
        assert not learner.training
        shifts.append(learner.shift)
    assert modes and not any(modes) and shifts[0].any() and torch.equal(*shifts)


def test_each_pass_holds_every_image_once(settings: Settings, tiny_dataset: Dataset) -> None:
    learner, loader = learner_of(settings), loader_of(tiny_dataset)
    for _ in range(3):
        fit_prototypes(Classifier(Colors(), N, learner), loader)
        of_class = [sum(k in (0, *views.record.labels) for views in loader) for k in range(N + 1)]
        assert learner.bank.seen.tolist() == of_class and learner.valid.any(dim=1).all()
    assert int(learner.clusterings) == 3


def test_a_doubtful_class_is_left_out(settings: Settings, tiny_dataset: Dataset) -> None:
    """By the logits, which are here the means of the CAM."""
    loader = loader_of(tiny_dataset)
    learner = learner_of(settings, **{"cpal.min_probability": 0.5})
    classifier = Classifier(Colors(), N, learner)
    fit_prototypes(classifier, loader)
    expected = [len(loader), 0, 0, 0]
    for record, _, (view,) in loader:
        label = classifier.label(record)
        features, cam, logits = classifier.look(view, label)
        present = learner.instances(features, cam, label, refinements=0).present[0]
        for k in record.labels:
            expected[k] += int(present[k] and logits[0, k - 1] >= 0)
    assert learner.bank.seen.tolist() == expected
    assert sum(expected) < sum(1 + len(views.record.labels) for views in loader)


@pytest.mark.parametrize(
    ("length", "least", "align"),
    [*((n, p, "instance") for n in (12, 3) for p in (0.0, 0.5)), (12, 0.0, "bank"), (12, 0.0, "ema")],
)
def test_each_instance_is_found_again_from_its_image(
    settings: Settings, tiny_dataset: Dataset, tmp_path: Path, length: int, least: float, align: str
) -> None:
    """The file has what refined each entry, and its image: the mean of the pixels found with both is the entry."""
    keys = {"cpal.bank_length": length, "cpal.num_prototypes": 2, "cpal.min_probability": least, "cpal.align": align}
    learner, loader = learner_of(settings, **keys), loader_of(tiny_dataset)
    classifier = Classifier(Colors(), N, learner)
    fit_prototypes(classifier, loader)
    before = Former(learner)
    save_bank(tmp_path / "bank", learner, before, fit_prototypes(classifier, loader), tiny_dataset.classes)
    loaded = learner_of(settings, **keys)
    former, origins = load_bank(tmp_path / "bank", loaded, tiny_dataset.classes)
    assert torch.equal(former.context, before.context) and not torch.equal(former.context, loaded.context)
    found = fitted(Classifier(Colors(), N, loaded), former, origins).filling.learner
    assert found is not None
    images = {views.record.image_id: views for views in loader}
    for k, ids in enumerate(origins):
        showing = [name for name, views in images.items() if k in (0, *views.record.labels)]
        assert ids == [name for name in showing if name in ids], "in the order of the images"
        assert least or ids == showing[-length:]
        for name, entry in zip(ids, loaded.bank.latest(k), strict=True):
            label = classifier.label(images[name].record)
            features, cam, _ = classifier.look(images[name].views[0], label)
            step = found.instances(features, cam, label)
            mean = torch.nn.functional.normalize(step.features[0, :, step.mask[0, k] > 0].mean(dim=1), dim=0)
            torch.testing.assert_close(entry, mean, atol=1e-5, rtol=1e-5)


def test_a_file_without_origins_says_what_to_do(settings: Settings, tmp_path: Path) -> None:
    learner = learner_of(settings)
    learner.bank.seen += 1
    save_weights(tmp_path / "old", {"learner": learner, "former": Former(learner)}, {"classes": ["a"]})
    with pytest.raises(UserError, match="does not name the image.*dvc repro -f -s fit_prototypes"):
        load_bank(tmp_path / "old", learner, ["a"])


def test_maps_are_written_by_the_records_name(settings: Settings, tiny_dataset: Dataset, tmp_path: Path) -> None:
    classifier, loader = Classifier(Colors(), N, learner_of(settings)), loader_of(tiny_dataset)
    fit_prototypes(classifier, loader)
    write_cams(classifier, loader[1:3], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.npz", "c.npz"]


@pytest.mark.parametrize("full_at", [1, 3], ids=["while more images come", "at the last one"])
def test_a_full_disk_ends_the_writing_of_maps(
    settings: Settings, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    classifier, loader = Classifier(Colors(), N, learner_of(settings)), loader_of(tiny_dataset)
    fit_prototypes(classifier, loader)
    calls = count(1)

    def write(path: Path, content: CamFile) -> None:
        if next(calls) >= full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_cam(path, content)

    monkeypatch.setattr("cpal.method.make_cams.write_cam", write)
    with pytest.raises(OSError, match="No space left") as raised:
        write_cams(classifier, loader[:3], tmp_path / "cams")
    assert raised.value.filename == str(tmp_path / f"cams/{loader[full_at - 1].record.image_id}.npz")
    written = sorted(path.name for path in tmp_path.rglob("*.npz"))
    assert written == [f"{views.record.image_id}.npz" for views in loader[: full_at - 1]]


@pytest.mark.parametrize("contrast", ["none", "difference", "ratio"])
def test_maps_are_means_over_the_views(settings: Settings, tiny_dataset: Dataset, contrast: str) -> None:
    """The same view twice gives the same maps; all but a ratio, whose scale carries meaning, reach from 0 to 1."""
    learner = learner_of(settings, **{"cpal.contrast": contrast})
    classifier, loader = Classifier(Colors(), N, learner), loader_of(tiny_dataset)
    fit_prototypes(classifier, loader)
    record, size, (view,) = loader[0]
    once, twice = (localize(classifier, classifier.label(record), size, views) for views in ([view], [view, view]))
    for name in ("cam", "pacam"):
        np.testing.assert_allclose(once.maps[name], twice.maps[name], atol=1e-6)
    assert once.maps["cam"].max() == pytest.approx(1, abs=1e-3)
    reaches = float(once.maps["pacam"].max()) > 0.999
    assert reaches == (contrast != "ratio")


def test_maps_of_two_scales_against_a_loop(settings: Settings, tiny_dataset: Dataset) -> None:
    """Each view's map without its negative values, resized; then the mean, and the CAM over its maximum."""
    taught = TaughtCam(N + 1, 3)
    taught.weight.normal_(std=9), taught.bias.normal_()
    classifier = Classifier(Colors(), N, learner_of(settings, **{"cpal.contrast": "ratio"}), taught)
    assert classifier.learner is not None
    fit_prototypes(classifier, loader_of(tiny_dataset))
    for record, size, views in loader_of(tiny_dataset, scales=(1.0, 2.5)):
        label, shape = classifier.label(record), (-(-size[0] // 4), -(-size[1] // 4))
        sums = {name: np.zeros((N, *shape), np.float32) for name in MAP_NAMES}
        for view in views:
            features, cam, _ = classifier.look(view, label)
            pacam, _ = classifier.learner(features, cam, label)
            z = classifier.learner.embed(features, cam.shape[2:])
            found = {"cam": cam.clamp(min=0), "pacam": pacam[:, 1:], "taught": taught(z, label)}
            for name, maps in found.items():
                sums[name] += resize_maps(maps[0].numpy(), shape) / len(views)
        sums["cam"] /= sums["cam"].max(axis=(1, 2), keepdims=True) + 1e-5
        content = localize(classifier, label, size, views)
        for name in MAP_NAMES:
            expected = sums[name][[k - 1 for k in record.labels]]
            np.testing.assert_allclose(content.maps[name], expected, atol=2e-6)
