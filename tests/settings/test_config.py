"""params.yaml as checked settings: it loads, and every kind of problem is reported at once with its cure."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from cpal.errors import UserError
from cpal.settings.config import load_config, parse_config
from cpal.settings.hosts import HostsConfig
from cpal.settings.moved import GONE, MOVED

PARAMS = Path(__file__).parents[2] / "params.yaml"
Problems = Callable[..., list[str]]
MISSING = object()


@pytest.fixture
def problems(raw_params: dict[str, Any]) -> Problems:
    """`problems(**{"cpal.topk": 60})`: the lines of the message for params.yaml with these values, or none."""

    def report(**overrides: Any) -> list[str]:
        values = copy.deepcopy(raw_params)
        for key, value in overrides.items():
            *parents, last = key.split(".")
            section = values
            for name in parents:
                section = section[name]
            if value is MISSING:
                del section[last]
            else:
                section[last] = value
        try:
            parse_config(values, name="FILE")
        except UserError as error:
            first, *lines = str(error).split("\n")
            assert first == f"FILE: {len(lines)} setting(s) to put right:"
            return [line.removeprefix("  - ") for line in lines]
        return []

    return report


class TestTheFile:
    def test_loads_and_every_value_arrives(self, raw_params: dict[str, Any]) -> None:
        config = load_config(PARAMS)

        def compare(found: Any, expected: Any, place: str) -> int:
            if isinstance(expected, dict):
                return sum(compare(getattr(found, key), value, f"{place}.{key}") for key, value in expected.items())
            assert found == (tuple(expected) if isinstance(expected, list) else expected), place
            return 1

        assert compare(config, raw_params, "params") > 200

    def test_cannot_be_changed_and_can_be_hashed(self) -> None:
        config = load_config(PARAMS)
        with pytest.raises(ValidationError, match="frozen"):
            config.cpal.topk = 3
        assert hash(config) == hash(load_config(PARAMS))

    def test_numbers_like_1e_4_are_numbers(self, tmp_path: Path) -> None:
        text = PARAMS.read_text(encoding="utf-8")
        assert "  weight_decay: 0.0001\n" in text
        path = tmp_path / "params.yaml"
        path.write_text(text.replace("  weight_decay: 0.0001\n", "  weight_decay: 1e-4\n"), encoding="utf-8")
        assert load_config(path) == load_config(PARAMS)

    def test_switches_are_words_of_yaml_1_2(self, tmp_path: Path) -> None:
        """`off` without quotes is a word there, not false, so that `amp: off` from dvc's -S works."""
        path = tmp_path / "params.yaml"
        path.write_text(PARAMS.read_text(encoding="utf-8").replace('amp: "off"', "amp: off"), encoding="utf-8")
        assert load_config(path).hosts.irn.amp == "off"

    def test_what_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "params.yaml"
        with pytest.raises(UserError, match=r"params\.yaml: no such file; run from the project's folder"):
            load_config(path)
        for text in ("a: [1", "a: 1\na: 2", "\ta: 1"):
            path.write_text(text)
            with pytest.raises(UserError, match=r"params\.yaml: not valid YAML"):
                load_config(path)
        path.write_bytes(b"a: \xff")
        with pytest.raises(UserError, match=r"params\.yaml: not valid YAML"):
            load_config(path)
        for text in ("", "- 1", "just text"):
            path.write_text(text)
            with pytest.raises(UserError, match=r"params\.yaml: holds no settings"):
                load_config(path)

    def test_problems_name_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.yaml"
        path.write_text(PARAMS.read_text(encoding="utf-8").replace("seed: 0 ", "seed: x "), encoding="utf-8")
        with pytest.raises(UserError, match=r"mine\.yaml: 1 setting\(s\) to put right:\n  - seed: .*got 'x'"):
            load_config(path)


class TestProblems:
    def test_all_kinds_at_once(self, problems: Problems) -> None:
        found = problems(
            **{
                "seed": -1,
                "toy.max_side": 70,
                "cpal.topk": MISSING,
                "cpal.tok": 3,
                "cpal.temperature": "hot",
                "cpal.metric": "euclid",
                "cam.flip": 1,
                "cam.scales": [1.0, "x"],
                "segmentation.iterations": 7,
                "crf": None,
                "cams": {},
            }
        )
        assert sorted(found) == sorted(
            [
                "seed: input should be greater than or equal to 0, got -1",
                "toy: max_side 70 is below min_side 128",
                "cpal.topk: missing",
                "cpal.tok: unknown key (did you mean 'topk'?)",
                "cpal.temperature: input should be a valid number, got 'hot'",
                "cpal.metric: input should be 'dot', 'cosine', 'l1' or 'l2', got 'euclid'",
                "cam.flip: input should be a valid boolean, got 1",
                "cam.scales[1]: input should be a valid number, got 'x'",
                "segmentation: iterations 7 is no multiple of checkpoint_interval 50; set checkpoint_interval to 7",
                "crf: input should be a valid dictionary or instance of CrfConfig, got None",
                "cams: unknown key (did you mean 'cam'?)",
            ]
        )

    @pytest.mark.parametrize(
        ("key", "line"),
        [
            ("sed", "sed: unknown key (did you mean 'seed'?)"),
            ("cpal.bank_lenght", "cpal.bank_lenght: unknown key (did you mean 'bank_length'?)"),
            ("crf.zzz", "crf.zzz: unknown key"),
        ],
    )
    def test_did_you_mean(self, problems: Problems, key: str, line: str) -> None:
        assert problems(**{key: 1}) == [line]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("seed", 2**32),
            ("cpal.topk", True),
            ("cpal.topk", 2.0),
            ("cpal.topk", "ten"),
            ("cpal.topk", "3"),
            ("cpal.topk", None),
            ("cpal.detach_target", "yes"),
            ("cpal.detach_target", 1),
            ("cpal.temperature", True),
            ("cpal.temperature", 0),
            ("cpal.temperature", math.inf),
            ("cpal.temperature", math.nan),
            ("hosts.irn.learning_rate", math.inf),
            ("hosts.irn.momentum", 1.0),
            ("hosts.irn.weights", 0),
            ("hosts.irn.amp", False),
            ("hosts.irn.output_stride", 12),
            ("cpal.mask_threshold", 1.0),
            ("cpal.min_probability", 1.5),
            ("seeds.pacam_threshold", 0.0),
            ("crf.certainty", 1.0),
            ("data.classes", "cat"),
            ("data.source", "coco3"),
            ("evaluate.threshold_step", 0.0),
            ("cam.scales", 1.0),
            ("cam.scales", []),
            ("cam.scales", "12"),
            ("hosts.irn.resize_long", [128, 160, 192]),
            ("cpal", [1]),
        ],
    )
    def test_one_line_for_one_wrong_value(self, problems: Problems, key: str, value: Any) -> None:
        (line,) = problems(**{key: value})
        assert line.startswith(f"{key}: ")
        assert line.endswith(f"got {value!r}")

    @pytest.mark.parametrize(
        ("key", "value", "place"),
        [
            ("cam.scales", ["1.0"], "cam.scales[0]"),
            ("cam.scales", [1.0, -0.5], "cam.scales[1]"),
            ("cpal.features", [5], "cpal.features[0]"),
            ("data.classes", ["cat", 3], "data.classes[1]"),
            ("hosts.irn.resize_long", [128], "hosts.irn.resize_long[1]"),
            ("segmentation.dilations", [6, 12.5], "segmentation.dilations[1]"),
        ],
    )
    def test_items_of_lists_are_named(self, problems: Problems, key: str, value: Any, place: str) -> None:
        (line,) = problems(**{key: value})
        assert line.startswith(f"{place}: ")

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            ({"cpal.topk": 60}, "cpal: topk 60 exceeds num_prototypes 50"),
            ({"cpal.bank_length": 30}, "cpal: num_prototypes 50 exceeds bank_length 30"),
            ({"hosts.irn.accumulate": 3}, "hosts.irn: batch_size 8 is no multiple of accumulate 3"),
            ({"hosts.irn.crop_size": 100}, "hosts.irn: crop_size 100 is no multiple of output_stride 16"),
            (
                {"hosts.irn.resize_long": [200, 100]},
                "hosts.irn: resize_long: the first value 200 exceeds the second 100",
            ),
            (
                {"segmentation.scale_range": [2.0, 0.5]},
                "segmentation: scale_range: the first value 2.0 exceeds the second 0.5",
            ),
            (
                {"data.source": "folder", "data.masks": "truth"},
                "data: masks needs mask_classes, the class names of the mask values 1, 2, ...; "
                "without masks write masks: null",
            ),
            (
                {"data.source": "coco2014", "data.labels": "xml"},
                "data: labels: xml does not go with source: coco2014; take coco",
            ),
            (
                {"data.source": "voc", "data.masks": None},
                "data: labels: masks needs masks, the folder that holds them",
            ),
            (
                {"data.source": "folder", "data.masks": None, "data.labels": "folders", "data.score_list": "x"},
                "data: score_list: x is another list than train_list; source: folder scores every training image that "
                "has a mask, so write train",
            ),
            (
                {"data.source": "coco2014", "data.labels": "coco"},
                "data: masks: SegmentationClass: with source: coco2014 write annotations, or null for none",
            ),
            (
                {"seeds.source": "imported"},
                "seeds: source: imported does not go with maps: data/cams; imported with data/imported_cams",
            ),
            (
                {"cpal.projection": 8},
                "cpal: projection learns from the target of L_Self only; set self_weight above 0 and detach_target: "
                "false, or projection to 0",
            ),
            ({"host": "ires"}, f"host: ires is unknown; choose {', '.join(HostsConfig.model_fields)}"),
            (
                {"hosts.amn.sure_background": 0.7, "hosts.amn.sure_foreground": 0.3},
                "hosts.amn: sure_background 0.7 exceeds sure_foreground 0.3",
            ),
            (
                {"hosts.clip_es.template": "a photo"},
                "hosts.clip_es: template 'a photo' has no {} where the class name goes",
            ),
            (
                {"hosts.clip_es.template": "a {} of {:>9999999999}"},
                "hosts.clip_es: template 'a {} of {:>9999999999}' has other braces than one {}; leave them away",
            ),
            (
                {"cam.long_side": 4000, "cam.scales": [1.0, 2.5]},
                "cam: long_side 4000 times the scale 2.5 is more than 8192 pixels; lower one of them",
            ),
            (
                {
                    **{"affinity.method": "irn", "seeds.source": "pacam"},
                    **{"walk.start": "seeds", "walk.background": "threshold"},
                },
                "walk.background: threshold, with walk.start: seeds, needs maps that are near 0 on background, and "
                "PACAM with cpal.contrast: ratio is near 0.5 there; set walk.background: walk",
            ),
            ({"crf.certainty": 0.5}, "crf.certainty: input should be greater than 0.5, got 0.5"),
            ({"cpal.temperature": 0.001}, "cpal.temperature: input should be greater than or equal to 0.01, got 0.001"),
            (
                {"walk.powers": [1.5]},
                "pseudo_mask.walk_power 1.0 is none of walk.powers, which are walked: 1.5",
            ),
            (
                {"seeds.source": "taught", "taught_cam.decay": 0},
                "seeds.source: taught needs taught_cam.decay above 0; or choose pacam",
            ),
            (
                {"taught_cam.sure_background": 0.7, "taught_cam.sure_foreground": 0.3},
                "taught_cam: sure_background 0.7 exceeds sure_foreground 0.3",
            ),
            (
                {"taught_cam.crf_background": 0.8, "taught_cam.crf_foreground": 0.6},
                "taught_cam: crf_background 0.8 exceeds crf_foreground 0.6",
            ),
            *(
                (
                    {"data.source": source, "data.labels": labels, f"data.{key}": value},
                    f"data: {key}: source: {source} with labels: {labels} does not read it; write null, or correct "
                    "labels",
                )
                for source, labels, key, value in (
                    ("voc", "masks", "labels_file", "labels.csv"),
                    ("voc2012", "xml", "label_encoding", "cp1252"),
                    ("folder", "folders", "label_separator", ";"),
                    ("folder", "xml", "label_threshold", 0.5),
                )
            ),
            *(
                (
                    {"data.source": "voc", f"data.{key}": value},
                    f"data: {key}: only source: folder reads it; with source: voc write null",
                )
                for key, value in (("mask_classes", ["cat"]), ("mask_suffix", "_mask"))
            ),
            (
                {"data.source": "coco2014", "data.labels": "coco", "data.masks": None, "data.mask_colors": "voc"},
                "data: mask_colors: source: coco2014 draws the masks itself; write null",
            ),
            ({"data.source": "voc", "data.labels": "csv"}, "data: labels: csv needs labels_file, the path of the file"),
            *(
                (
                    {"data.source": "voc", "data.images": path},
                    f"data: images: {path} must be below root, which DVC watches; write the path from there",
                )
                for path in ("/elsewhere", "a/../../elsewhere")
            ),
            ({"data.classes": ["cat", "dog", "cat"]}, "data.classes: names cat twice"),
        ],
    )
    def test_settings_that_do_not_fit_together(self, problems: Problems, keys: dict[str, Any], message: str) -> None:
        assert problems(**keys) == [message]

    def test_keys_that_are_no_words(self, raw_params: dict[str, Any]) -> None:
        values: dict[Any, Any] = {**copy.deepcopy(raw_params), 7: 3}
        values["cpal"][1] = 2
        with pytest.raises(UserError, match=r"2 setting\(s\)"):
            parse_config(values)

    def test_a_missing_section_is_one_line(self, problems: Problems) -> None:
        assert problems(cpal=MISSING) == ["cpal: missing"]

    def test_what_may_vary(self, problems: Problems) -> None:
        """Whole numbers where numbers are asked for, tuples, one item, null where params.yaml says so."""
        assert not problems(
            **{
                "cpal.temperature": 1,
                "cam.scales": (1, 2),
                "cam.long_side": 320,
                "data.classes": ["cat"],
                "hosts.irn.resize_long": [128, 128],
                "cpal.self_weight": 0,
                "crf.iterations": 0,
            }
        )

    @pytest.mark.parametrize("host", ["irn", "amn", "mctformer", "clip_es"])
    def test_the_least_probability_goes_with_every_host(self, problems: Problems, host: str) -> None:
        assert not problems(**{"cpal.min_probability": 0.5, "host": host})


def numbers(settings: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    """Dotted names and values of all numbers; a list is named by its first item, as `cam.scales[0]`."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            yield from numbers(value, f"{key}.{name}".lstrip("."))
    elif isinstance(settings, list) and settings:
        yield from numbers(settings[0], f"{key}[0]")
    elif isinstance(settings, int | float) and not isinstance(settings, bool):
        yield key, settings


NUMBERS = dict(numbers(YAML(typ="safe", pure=True).load(PARAMS.read_text(encoding="utf-8"))))
NUMBERS["cpal.align_strength"] = 0.5  # null in params.yaml


class TestBounds:
    @pytest.mark.parametrize("key", NUMBERS)
    def test_no_number_is_without_bounds(self, problems: Problems, raw_params: dict[str, Any], key: str) -> None:
        """A slip of the keyboard ends here, and not hours later in a library."""
        name, listed, _ = key.partition("[0]")
        *parents, last = name.split(".")
        section = raw_params
        for parent in parents:
            section = section[parent]
        absurd = [10**10, 10**400, -1] if isinstance(NUMBERS[key], int) else [1e9, 1e300, 10**400, -1e-9]
        for value in absurd:
            lines = problems(**{name: [value, *section[last][1:]] if listed else value})
            assert [line for line in lines if line.startswith(f"{key}: ") and " got " in line], (value, lines)

    @pytest.mark.parametrize(
        ("key", "value", "line"),
        [
            ("crf.gaussian_sxy", 1e-30, "crf.gaussian_sxy: input should be greater than or equal to 0.1, got 1e-30"),
            ("final_test.crf.bilateral_srgb", 0.01, "final_test.crf.bilateral_srgb: input should be greater than or"),
            ("cam.scales", [1.0, 1e9], "cam.scales[1]: input should be less than or equal to 8, got 1000000000.0"),
            ("final_test.scales", [1e-9], "final_test.scales[0]: input should be greater than or equal to 0.05, got"),
            ("cam.scales", [1.0] * 33, "cam.scales: tuple should have at most 32 items after validation, not 33, got"),
            ("hosts.irn.resize_long", [16, 10**6], "hosts.irn.resize_long[1]: input should be less than or equal to"),
            ("hosts.amn.crop_size", 8208, "hosts.amn.crop_size: input should be less than or equal to 8192, got 8208"),
            ("segmentation.batch_size", 10**6, "segmentation.batch_size: input should be less than or equal to 4096"),
            ("affinity.radius", 33, "affinity.radius: input should be less than or equal to 32, got 33"),
            ("toy.void_border", 33, "toy.void_border: input should be less than or equal to 32, got 33"),
        ],
    )
    def test_the_message_names_key_value_and_bound(self, problems: Problems, key: str, value: Any, line: str) -> None:
        (found,) = problems(**{key: value})
        assert found.startswith(line)

    def test_a_long_value_is_shortened(self, problems: Problems) -> None:
        (line,) = problems(**{"data.source": "x" * 10**6})
        assert len(line) < 400

    def test_a_crf_at_its_bounds_neither_crashes_nor_gives_nan(self) -> None:
        """Below 1e-5 pydensecrf ends the process; far above the bounds it gives NaN. Hence in one of its own."""
        done = subprocess.run(
            [sys.executable, "-c", CRF_AT_ITS_BOUNDS, PARAMS], cwd=PARAMS.parent, text=True, capture_output=True
        )
        assert (done.returncode, done.stdout) == (0, "16 finite\n"), done.stderr


CRF_AT_ITS_BOUNDS = """
import sys
from itertools import product
from pathlib import Path
import numpy as np
from cpal.maps.crf import refine_probabilities
from cpal.settings.config import Pairwise, load_config

rng = np.random.default_rng(0)
image = rng.integers(0, 256, (300, 200, 3), dtype=np.uint8)
probability = rng.dirichlet(np.ones(3), (300, 200)).transpose(2, 0, 1).astype(np.float32)
crf = load_config(Path(sys.argv[1])).final_test.crf.model_copy(update={"iterations": 2})
schema = Pairwise.model_json_schema()["properties"]
bounds = {name: (about["minimum"], about["maximum"]) for name, about in schema.items()}
finite = 0
for width, color, compat in product(bounds["gaussian_sxy"], bounds["bilateral_srgb"], bounds["bilateral_compat"]):
    for others in ({"gaussian_sxy": width}, {"gaussian_sxy": width, "bilateral_sxy": width, "gaussian_compat": compat}):
        settings = crf.model_copy(update=others | {"bilateral_srgb": color, "bilateral_compat": compat})
        Pairwise.model_validate(settings.model_dump())
        finite += bool(np.isfinite(refine_probabilities(image, probability, settings)).all())
print(finite, "finite")
"""


class TestOldNames:
    @pytest.mark.parametrize(
        ("old", "line"),
        [
            ("cam.source", "cam.source: is now seeds.source"),
            ("cam.pacam_threshold", "cam.pacam_threshold: is now seeds.pacam_threshold"),
            ("affinity.walk_radius", "affinity.walk_radius: is now walk.radius"),
            ("affinity.beta", "affinity.beta: is now walk.beta"),
            ("segmentation.test_scales", "segmentation.test_scales: is now final_test.scales"),
            (
                "affinity.head_learning_rate",
                "affinity.head_learning_rate: is gone (the displacement branch was not used); remove the line",
            ),
            ("hosts.clip_es.epochs", "hosts.clip_es.epochs: is gone (this host learns nothing); remove the line"),
        ],
    )
    def test_a_key_that_moved_names_its_new_place(self, problems: Problems, old: str, line: str) -> None:
        assert problems(**{old: 1}) == [line]

    def test_an_old_section_has_a_line_for_each_key(self, problems: Problems) -> None:
        assert problems(classifier={"epochs": 6, "amp": "off"}, test_crf={"iterations": 0}, amn=None, clip_es={}) == [
            "classifier.epochs: is now hosts.irn.epochs",
            "classifier.amp: is now hosts.irn.amp",
            "test_crf.iterations: is now final_test.crf.iterations",
            "amn: is now hosts.amn",
            "clip_es: is now hosts.clip_es",
        ]

    def test_moved_and_other_problems_are_told_together(self, problems: Problems) -> None:
        found = problems(**{"hosts": MISSING, "classifier": {"epochs": 6}, "cam.maps": "data/cams", "cpal.topk": -1})
        assert sorted(found) == [
            "cam.maps: is now seeds.maps",
            "classifier.epochs: is now hosts.irn.epochs",
            "cpal.topk: input should be greater than or equal to 0, got -1",
            "hosts: missing",
        ]

    @pytest.mark.parametrize(("old", "new"), MOVED.items(), ids=MOVED)
    def test_new_places_exist_and_old_ones_do_not(self, raw_params: dict[str, Any], old: str, new: str) -> None:
        assert new in keys(raw_params) and old not in keys(raw_params)

    def test_what_is_gone_does_not_exist(self, raw_params: dict[str, Any]) -> None:
        assert not GONE.keys() & keys(raw_params)


def keys(settings: dict[str, Any], prefix: str = "") -> set[str]:
    """Dotted names of all sections and keys."""
    inner = [keys(value, f"{prefix}{key}.") for key, value in settings.items() if isinstance(value, dict)]
    return {f"{prefix}{key}" for key in settings}.union(*inner)
