"""The classifier's loss, its training on drawn pictures, and the files that keep it."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from cpal.data.dataset import Dataset
from cpal.data.masks import VOID
from cpal.errors import UserError
from cpal.hosts.irn import build_irn_host
from cpal.method import train_cam
from cpal.method.learner import ContextPrototypeLearner, build_learner, select
from cpal.method.train_cam import ClusterEachEpoch, CpalLoss, train_classifier
from cpal.networks.weights import load_weights, save_weights
from cpal.settings.config import Config
from cpal.training import loop
from cpal.training.loop import Run
from cpal.training.samples import Augmentation, TrainingSamples

Settings = Callable[..., Config]
N = 3
LABELS = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
SMALL = {"hosts.irn.backbone": "mobilenetv3_small_050", "hosts.irn.weights": "none", "hosts.irn.freeze_norm": False}


@pytest.fixture
def loss(settings: Settings) -> CpalLoss:
    """A small network with its learner."""
    return small_loss(settings())


def small_loss(config: Config) -> CpalLoss:
    torch.manual_seed(0)
    host = build_irn_host(config.hosts.irn.model_copy(update={"backbone": "mobilenetv3_small_050"}), N, weights="none")
    return CpalLoss(host, build_learner(host, N, config.cpal, seed=0), config.cpal)


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images, labels, masks and padding; the second image lies in the left three quarters of its crop."""
    generator = torch.Generator().manual_seed(seed)
    padding = torch.zeros(2, 64, 64, dtype=torch.bool)
    padding[1, :, 48:] = True
    mask = torch.where(padding, VOID, 0)
    return torch.randint(0, 256, (2, 3, 64, 64), generator=generator, dtype=torch.uint8), LABELS, mask, padding


class TestLoss:
    def test_classification_loss_is_eq_2(self, loss: CpalLoss) -> None:
        image, label, mask, padding = batch()
        logits = loss.eval().host(image, label).logits
        expected = torch.zeros(())
        for b in range(2):
            for n in range(N):
                probability = torch.sigmoid(logits[b, n])
                expected -= (probability if label[b, n] else 1 - probability).log() / (2 * N)
        torch.testing.assert_close(loss(image, label, mask, padding)["loss_classification"], expected)

    def test_without_a_learner_there_is_nothing_else(self, loss: CpalLoss) -> None:
        alone = CpalLoss(loss.host, None, loss.settings)
        assert set(alone(*batch())) == {"loss_classification"}

    def test_self_loss_is_the_learners_weighted_and_switched(self, settings: Settings) -> None:
        loss = small_loss(settings(**{"cpal.self_weight": 2.5, "cpal.features": [2, 3]})).train()
        for module in loss.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        loss(*batch(0))
        loss.learner.cluster()
        assert loss(*batch(1))["loss_self"] == 0
        loss.warm.fill_(True)
        loss.eval()
        image, label, mask, padding = batch(2)
        output = loss.host(image, label)
        cells = torch.zeros(2, 4, 4, dtype=torch.bool)
        cells[1, :, 3] = True
        _, expected = loss.learner(output.features[1:3], output.cam, label, padding=cells)
        assert expected > 0
        torch.testing.assert_close(loss(image, label, mask, padding)["loss_self"], 2.5 * expected)

    def test_with_amp_the_method_stays_in_full_precision(self, loss: CpalLoss, monkeypatch: pytest.MonkeyPatch) -> None:
        """In half precision, a quarter of the neighbors would be others, and a sum over a large mask infinite."""
        learner, told = loss.learner, []

        def spy(features: list[Tensor], cam: Tensor, *arguments: Any, **options: Any) -> Any:
            told.extend([*features, cam, options["probability"]])
            told.append(features[0].flatten(1) @ features[0].flatten(1).T)
            return forward(features, cam, *arguments, **options)

        assert learner is not None
        forward = learner.forward
        monkeypatch.setattr(learner, "forward", spy)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = loss(*batch())
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16, "autocast is on for the host"
        assert {tensor.dtype for tensor in told} == {torch.float32} and torch.isfinite(losses["loss_self"])

    def test_a_cell_with_any_padding_is_padding(self, loss: CpalLoss, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[Tensor] = []

        def spy(
            _learner: Any, _features: Any, cam: Tensor, _label: Any, *, padding: Tensor, probability: Tensor
        ) -> tuple[Tensor, Tensor]:
            seen.append(padding)
            return cam, cam.sum()

        monkeypatch.setattr(ContextPrototypeLearner, "__call__", spy)
        image, label, mask, padding = batch()
        padding[:], padding[0, 17, 40], padding[1, 63, 0] = False, True, True
        mask[1, 5, 5] = VOID  # a pixel without a label is no padding
        loss(image, label, mask, padding)
        assert seen[0].nonzero().tolist() == [[0, 1, 2], [1, 3, 0]]

    def test_the_learner_is_told_what_the_classifier_says(
        self, loss: CpalLoss, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The logits' probability, which not every host's is the mean of its CAM."""
        image, label, mask, padding = batch()
        output, losses = loss.eval().host.training_step(image, label, mask)
        monkeypatch.setattr(loss.host, "training_step", lambda *_: (output._replace(logits=3 - output.logits), losses))
        seen: list[Tensor] = []

        def spy(_learner: Any, _features: Any, cam: Tensor, *_: Any, probability: Tensor, **__: Any) -> Any:
            seen.append(probability)
            return cam, cam.sum()

        monkeypatch.setattr(ContextPrototypeLearner, "__call__", spy)
        loss(image, label, mask, padding)
        torch.testing.assert_close(seen[0], 1 / (1 + (output.logits - 3).exp()))
        assert not seen[0].requires_grad

    @pytest.mark.parametrize("projection", [0, 4])
    def test_new_layers_learn_at_their_own_rate(self, settings: Settings, projection: int) -> None:
        config = settings(**{"cpal.projection": projection, "cpal.detach_target": not projection})
        loss = small_loss(config)
        pretrained, new = loop._optimizer(loss, config.hosts.irn).param_groups
        assert (pretrained["lr"], new["lr"]) == (config.hosts.irn.learning_rate, config.hosts.irn.head_learning_rate)
        assert loss.learner is not None
        expected = [loss.host.get_parameter("classifier.weight"), *loss.learner.projections.parameters()]
        assert {id(p) for p in new["params"]} == {id(p) for p in expected}
        assert len(expected) == (1 + len(config.cpal.features) if projection else 1)
        rest = {id(p) for p in loss.parameters() if p.requires_grad} - {id(p) for p in expected}
        assert {id(p) for p in pretrained["params"]} == rest

    def test_gradients_reach_the_network(self, loss: CpalLoss) -> None:
        assert loss.learner is not None
        loss.learner.train()
        for step in range(3):
            if step:
                loss.learner.cluster()
                loss.warm.fill_(True)
            losses = loss(*batch(step))
        losses["loss_self"].backward()
        assert losses["loss_self"] > 0
        gradients = [p.grad for p in loss.host.parameters() if p.grad is not None]
        assert gradients and all(torch.isfinite(g).all() for g in gradients) and any(g.any() for g in gradients)


class TestFeatures:
    def test_select_names_stages_from_one(self, settings: Settings) -> None:
        features = [torch.full((1,), float(stage)) for stage in (1, 2, 3, 4)]
        chosen = select(features, settings(**{"cpal.features": [4, 1]}).cpal)
        assert [float(f) for f in chosen] == [4.0, 1.0]

    @pytest.mark.parametrize(("stages", "projection"), [([1, 2, 3, 4], 0), ([4], 0), ([1, 3], 7)])
    def test_the_learner_is_as_wide_as_they_are(self, settings: Settings, stages: list[int], projection: int) -> None:
        config = settings(
            **{"cpal.features": stages, "cpal.projection": projection, "cpal.detach_target": not projection}
        )
        loss = small_loss(config)
        width = sum(projection or loss.host.channels[stage - 1] for stage in stages)
        assert loss.learner is not None
        assert loss.learner.bank.entries.shape == (N + 1, config.cpal.bank_length, width)
        loss(*batch())

    def test_any_map_size_has_its_padding(self, settings: Settings) -> None:
        """Crops of 60 pixels make maps of 4 cells, and 60 / 4 is no stride of a pooling without a rest."""
        loss = small_loss(settings())
        images, labels, masks, padding = batch()
        loss(images[..., :60, :60], labels, masks[..., :60, :60], padding[..., :60, :60])


class TestSchedule:
    def test_clusters_from_the_second_epoch_and_warms_up_when_told(self, settings: Settings) -> None:
        loss = small_loss(settings(**{"cpal.self_start_epoch": 3}))
        assert loss.learner is not None
        hook, seen = ClusterEachEpoch(loss), []
        for epoch in range(5):
            hook.before_train_epoch(SimpleNamespace(epoch=epoch))
            seen.append((int(loss.learner.clusterings), bool(loss.warm)))
        assert seen == [(0, False), (1, False), (2, False), (3, True), (4, True)]

    def test_nothing_to_do_without_a_learner(self, loss: CpalLoss) -> None:
        ClusterEachEpoch(CpalLoss(loss.host, None, loss.settings)).before_train_epoch(SimpleNamespace(epoch=3))


def assert_learned_alike(found: dict[str, Tensor], expected: dict[str, Tensor], fresh: dict[str, Tensor]) -> None:
    """Other sums round otherwise, and each step enlarges the difference: it stays far below what was learned."""
    nothing = torch.zeros(())
    pairs = [(found[k].float(), x.float(), fresh.get(k.removeprefix("host."), nothing)) for k, x in expected.items()]
    apart = torch.cat([(one - other).flatten() for one, other, _ in pairs]).norm()
    learned = torch.cat([(other - start).flatten() for _, other, start in pairs if start is not nothing]).norm()
    assert apart < 0.001 * learned, f"{apart} of {learned}"


class TestTraining:
    def run(
        self, config: Config, dataset: Dataset, folder: Path, *, limit: int | None = None
    ) -> tuple[Any, ContextPrototypeLearner]:
        host, learner, rows = train_classifier(
            dataset,
            dataset.split("train", limit),
            config.chosen_host,
            config.cpal,
            Run(config.seed, folder, torch.device("cpu"), workers=0),
            diagnose=lambda host, learner: {"clusterings": int(learner.clusterings)},
        )
        assert [row["epoch"] for row in rows] == list(range(1, config.hosts.irn.epochs + 1))
        return host, learner

    @torch.no_grad()
    def classification_loss(self, host: nn.Module, dataset: Dataset) -> float:
        """Of the training pictures, each four times, mirrored or not."""
        data = TrainingSamples(
            dataset, dataset.split("train"), Augmentation(1, 64, padding=(124, 116, 104), scales=(1.5, 1.5))
        )
        batch = [data[position, position % 5] for position in range(20)]
        image, label = (torch.stack([sample[key] for sample in batch]) for key in ("image", "image_label"))
        return F.multilabel_soft_margin_loss(host.eval()(image, label).logits, label).item()

    def test_learns_the_drawn_classes_and_fills_the_bank(
        self, settings: Settings, tiny_dataset: Dataset, tmp_path: Path
    ) -> None:
        config = settings(**{"hosts.irn.epochs": 12, "hosts.irn.batch_size": 5, "hosts.irn.crop_size": 64})
        host, learner = self.run(config, tiny_dataset, tmp_path)
        assert not host.training and int(learner.clusterings) == 11
        torch.manual_seed(config.seed)
        fresh = build_irn_host(config.hosts.irn, N)
        losses = [self.classification_loss(network, tiny_dataset) for network in (fresh, host)]
        assert losses[1] < 0.85 * losses[0]
        assert learner.bank.seen[0] >= config.cpal.bank_length and learner.bank.seen.all()
        assert learner.valid.any(1).all()

    def test_same_seed_same_weights_and_another_one_differs(
        self, settings: Settings, tiny_dataset: Dataset, tmp_path: Path
    ) -> None:
        states = []
        for name, seed in (("first", 0), ("again", 0), ("other", 1)):
            torch.manual_seed(hash(name) % 1000)  # what ran before must not matter
            host, learner = self.run(settings(**SMALL | {"seed": seed}), tiny_dataset, tmp_path / name)
            states.append({**host.state_dict(), **learner.state_dict()})
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        assert not torch.equal(states[0]["classifier.weight"], states[2]["classifier.weight"])

    def test_weights_prototypes_and_crops_begin_with_the_seed(
        self, settings: Settings, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[tuple[CpalLoss, TrainingSamples]] = []
        monkeypatch.setattr(train_cam, "train", lambda loss, samples, *_, **__: told.append((loss, samples)))
        for seed in (0, 1, 1):
            run, config = Run(seed, tmp_path, torch.device("cpu"), workers=0), settings(**SMALL)
            records = tiny_dataset.split("train")
            train_classifier(tiny_dataset, records, config.chosen_host, config.cpal, run, diagnose=lambda *_: {})
        weights = [loss.host.get_parameter("classifier.weight") for loss, _ in told]
        crops = [samples[0, 0]["image"] for _, samples in told]
        for values in (weights, crops):
            assert torch.equal(values[1], values[2]) and not torch.equal(values[0], values[1])
        assert [loss.learner and loss.learner.seed for loss, _ in told] == [0, 1, 1]

    def test_without_self_loss_the_bank_stays_empty(
        self, settings: Settings, tiny_dataset: Dataset, tmp_path: Path
    ) -> None:
        config = settings(**SMALL | {"cpal.self_weight": 0.0})
        _, learner = self.run(config, tiny_dataset, tmp_path, limit=2)
        assert not learner.bank.seen.any() and not learner.clusterings

    def test_without_self_loss_the_learner_too_is_where_the_network_is(
        self, settings: Settings, tiny_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The meta device stands for a GPU: what is left on the CPU cannot meet what is there."""
        monkeypatch.setattr(train_cam, "train", lambda *_, **__: None)
        _, learner, _ = train_classifier(
            tiny_dataset,
            tiny_dataset.split("train"),
            settings(**SMALL).chosen_host,
            settings(**{"cpal.self_weight": 0.0}).cpal,
            Run(0, tmp_path, torch.device("meta"), workers=0),
            diagnose=lambda *_: {},
        )
        assert {value.device.type for value in learner.state_dict().values()} == {"meta"}

    @pytest.mark.parametrize(("device", "deterministic"), [("cpu", True), ("cuda", False), ("mps", False)])
    def test_operations_must_be_deterministic_on_a_cpu_only(
        self,
        settings: Settings,
        tiny_dataset: Dataset,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        device: str,
        deterministic: bool,
    ) -> None:
        """On a GPU some of those that segmentation needs have no such version, and raise an error."""
        records, seen = tiny_dataset.split("train"), []
        samples = TrainingSamples(tiny_dataset, records, Augmentation(0, 32, padding=(0, 0, 0), scales=(1, 2)))
        monkeypatch.setattr(loop._Runner, "wrap_model", lambda _, __, model: model)
        monkeypatch.setattr(loop._Runner, "train", lambda _: seen.append(torch.are_deterministic_algorithms_enabled()))
        loop.train(
            small_loss(settings()),
            samples,
            settings().hosts.irn,
            Run(0, tmp_path, torch.device(device), workers=0),
            iterations=2,
            interval=2,
        )
        assert seen == [deterministic]

    def test_a_batch_in_parts_teaches_what_the_whole_does(
        self, settings: Settings, tiny_dataset: Dataset, tmp_path: Path
    ) -> None:
        found = []
        for parts in (1, 4):
            keys = {"learning_rate": 0.05, "epochs": 4, "batch_size": 4, "accumulate": parts}
            config = settings(**{f"hosts.irn.{key}": value for key, value in keys.items()} | {"cpal.self_weight": 0.0})
            host, learner = self.run(config, tiny_dataset, tmp_path / f"{parts}")
            found.append(nn.ModuleDict({"host": host, "learner": learner}).state_dict())
        fresh = build_irn_host(config.hosts.irn, N).state_dict()
        assert any(not torch.allclose(fresh[key], found[0][f"host.{key}"], atol=1e-3) for key in fresh)
        assert_learned_alike(found[1], found[0], fresh)

    @pytest.mark.parametrize("parts", [1, 2])
    def test_two_processes_learn_what_one_does(
        self, settings: Settings, tiny_dataset: Dataset, tmp_path: Path, parts: int
    ) -> None:
        """With running statistics in batch norm, as on photographs; L_Self takes part in the second epoch."""
        keys = {"hosts.irn.learning_rate": 0.05, "hosts.irn.epochs": 4, "hosts.irn.batch_size": 2 * parts}
        if parts > 1:  # the bank and L_Self see one part after the other
            keys["cpal.self_weight"] = 0.0
        config = settings(**keys)
        shared = settings(**keys | {"hosts.irn.accumulate": parts})
        spawn(_train_rank, args=(tmp_path, shared, tiny_dataset), nprocs=2)
        host, learner = self.run(config, tiny_dataset, tmp_path / "alone")
        alone = nn.ModuleDict({"host": host, "learner": learner}).state_dict()
        ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
        fresh = build_irn_host(config.hosts.irn, N).state_dict()
        learned = [key for key in fresh if not torch.allclose(fresh[key], alone[f"host.{key}"], atol=1e-5, rtol=1e-4)]
        assert len(learned) > 10 and (parts > 1 or learner.valid.sum() > N)
        for key in alone:
            assert torch.equal(ranks[0][key], ranks[1][key]), key
        assert_learned_alike(ranks[0], alone, fresh)


def _train_rank(rank: int, folder: Path, config: Config, dataset: Dataset) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    host, learner = TestTraining().run(config, dataset, folder / "both")
    torch.save(nn.ModuleDict({"host": host, "learner": learner}).state_dict(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


META = {"backbone": "x", "classes": ["cat", "dog"], "stride": 16}


class TestFile:
    def modules(self, seed: int) -> dict[str, nn.Module]:
        torch.manual_seed(seed)
        return {"host": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), "hosts": nn.Linear(2, 2)}

    def test_round_trip(self, tmp_path: Path) -> None:
        written, read = self.modules(0), self.modules(1)
        save_weights(tmp_path / "w.safetensors", written, META)
        load_weights(tmp_path / "w.safetensors", read, META, stage="train_cam")
        for name in written:
            for key, value in written[name].state_dict().items():
                assert torch.equal(read[name].state_dict()[key], value)

    def test_a_learner_with_its_bank(self, settings: Settings, tmp_path: Path) -> None:
        config = settings(**{"cpal.projection": 4, "cpal.detach_target": False}).cpal
        learners = [ContextPrototypeLearner(N, [5, 6], config, seed=0) for _ in range(2)]
        learners[0].train()([torch.randn(2, 5, 4, 4), torch.randn(2, 6, 4, 4)], torch.randn(2, N, 4, 4), LABELS)
        learners[0].cluster()
        save_weights(tmp_path / "p.safetensors", {"learner": learners[0]}, META)
        load_weights(tmp_path / "p.safetensors", {"learner": learners[1]}, META, stage="fit_prototypes")
        for (key, a), b in zip(learners[0].state_dict().items(), learners[1].state_dict().values(), strict=True):
            assert torch.equal(a, b) and a.dtype == b.dtype, key

    def test_the_same_content_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            save_weights(tmp_path / name, self.modules(0), dict(reversed(META.items())) if name == "b" else META)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_a_flipped_bit_is_seen(self, tmp_path: Path) -> None:
        """Wherever it is, in the description or in a weight, of which safetensors would load another one."""
        path = tmp_path / "w.safetensors"
        save_weights(path, self.modules(0), META)
        whole = path.read_bytes()
        for place in range(0, len(whole), 7):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(UserError, match=r"w\.safetensors: (damaged|no file of weights)"):
                load_weights(path, self.modules(0), META, stage="train_cam")

    @pytest.mark.parametrize("value", [torch.nan, torch.inf])
    def test_weights_that_are_no_numbers_are_not_written(self, value: float, tmp_path: Path) -> None:
        modules = self.modules(0)
        next(modules["hosts"].parameters()).data[0, 0] = value
        with pytest.raises(UserError, match="values that are no finite numbers, such as hosts.weight; nothing"):
            save_weights(tmp_path / "w.safetensors", modules, META)
        assert not list(tmp_path.iterdir())

    def test_what_cannot_be_used_is_explained(self, tmp_path: Path) -> None:
        path = tmp_path / "w.safetensors"

        def refused(message: str, meta: dict[str, Any] = META) -> None:
            with pytest.raises(UserError, match=message):
                load_weights(path, self.modules(0), meta, stage="train_cam")

        refused(r"w\.safetensors: no such file; run the train_cam stage first: dvc repro train_cam")
        save_weights(path, self.modules(0), META)
        refused(r"made with other settings \(classes, stride\)", META | {"classes": ["cat"], "stride": 8})
        for other in (nn.Linear(2, 3), nn.Linear(2, 2, bias=False)):
            save_weights(path, self.modules(0) | {"hosts": other}, META)
            refused("made with other settings .hosts does not fit.; run: dvc repro train_cam")
        save_weights(path, {"host": self.modules(0)["host"]}, META)
        refused("made with other settings .hosts does not fit.; run: dvc repro train_cam")
        save_weights(path, self.modules(0), META)
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], whole[:4], b"", b"nonsense" * 9):
            path.write_bytes(damaged)
            refused(r"w\.safetensors: (damaged|empty).* dvc repro -f -s train_cam")
