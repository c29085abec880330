"""Settings that nobody could write: each ends at once, in one line that names the file and the cure."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from cpal.errors import UserError
from cpal.report.provenance import locked_outs
from cpal.settings.config import load_config
from cpal.settings.profiles import load_profile, read_settings
from cpal.settings.yaml_files import DEEPEST, LARGEST, parse_yaml

ROOT = Path(__file__).parents[2]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "alias bomb": BOMB,
    "anchor": "a: &a 1\n",
    "merge key": "a: &a {b: 1}\nc:\n  <<: *a\n",
    "5,000 brackets": "a: " + "[" * 5000,
    "5,000 closed brackets": "a: " + "[" * 5000 + "]" * 5000,
    "5,000 braces": "{a: " * 5000,
    "brackets and words": "[a," * 5000,
    "5,000 dashes": "- " * 5000,
    "nested blocks": "\n".join("  " * level + "a:" for level in range(200)),
    "keys that are asked for": "? " * 5000,
    "a number of 5,000 digits": "seed: " + "9" * 5000,
    "too large": "# comment\n" * 20_000,
    "an object of Python": "seed: !!python/object/apply:os.system [true]\n",
    "zeros": "\0" * 100,
    "an empty number": 'seed: !!int ""\n',
    "no truth value": 'seed: !!bool "x"\n',
    "a character beyond Unicode": 'seed: "\\UFFFFFFFF"\n',
    "two documents": "a: 1\n---\nb: 2\n",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("read", [load_config, read_settings, load_profile], ids=lambda read: read.__name__)
def test_hostile_settings_end_at_once(tmp_path: Path, read: Any, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    start = time.process_time()
    with pytest.raises(UserError) as error:
        read(path)
    assert time.process_time() - start < 1
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "git checkout " in message
    assert "\n" not in message and len(message) < len(str(path)) * 2 + 400


def test_a_huge_number_in_hexadecimal_is_told(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("seed: 0 ", f"seed: 0x{'f' * 9000} "), encoding="utf-8")
    with pytest.raises(UserError, match="seed: .*, got a number of thousands of digits"):
        load_config(path)


def test_the_limits_are_far_from_what_we_have() -> None:
    for path in (ROOT / "params.yaml", *(ROOT / "profiles").glob("*.yaml")):
        assert path.stat().st_size * 4 < LARGEST
    deep = "[" * DEEPEST + "]" * DEEPEST
    assert str(parse_yaml(f"{deep}\n", name="x", cure="y")) == deep
    with pytest.raises(UserError, match="x: not valid YAML: is nested deeper than 20 levels; y"):
        parse_yaml(f"[{deep}]\n", name="x", cure="y")
    nested = "".join(f"{' ' * level}a:\n" for level in range(DEEPEST))
    assert parse_yaml(nested, name="x", cure="y")
    with pytest.raises(UserError, match="deeper"):
        parse_yaml(nested + " " * DEEPEST + "a:\n", name="x", cure="y")


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml", "profiles/voc2012.yaml"])
def test_reads_what_ruamel_reads(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert parse_yaml(text, name=name, cure="") == YAML(typ="safe", pure=True).load(text)


def test_damaged_settings_are_told_or_read(tmp_path: Path) -> None:
    """300 small accidents in a part of params.yaml: settings, or our message."""
    rng, path = np.random.default_rng(0), tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_bytes()
    text = text[text.index(b"\ntaught_cam:") : text.index(b"\naffinity:")]
    tokens = [
        b"[",
        b"{",
        b"&a ",
        b"*a",
        b"!!binary ",
        b"!!set ",
        b"!!timestamp 1",
        b"? ",
        b": ",
        b"\t",
        b"\xff",
        b"|",
        b"-",
    ]
    tokens += [b"!!int x", b"!!float []", b"!!omap [1]", b"<<: ", b"%YAML 1.1\n---\n", b"...", b"1e999", b"2020-99-99"]
    for _ in range(300):
        data = bytearray(text)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(len(data)))
            if rng.random() < 0.3:
                del data[place : place + int(rng.integers(1, 30))]
            else:
                data[place:place] = tokens[int(rng.integers(len(tokens)))]
        path.write_bytes(data)
        with pytest.raises(UserError, match="params.yaml: "):  # most sections are missing in any case
            load_config(path)


def test_a_preset_and_a_section_of_other_kinds_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: [default]\n", encoding="utf-8")
    with pytest.raises(UserError, match="unknown; choose default, literal, sipe"):
        load_profile(path)
    path.write_text("preset: default\ncpal: 3\n", encoding="utf-8")
    assert load_profile(path) == {"cpal": 3}


class TestLock:
    LOCK = (ROOT / "dvc.lock").read_text(encoding="utf-8")

    def test_ours_is_read_as_json_would_hold_it(self, tmp_path: Path) -> None:
        """JSON is YAML: written so, the same outputs come out."""
        path = tmp_path / "dvc.lock"
        content = YAML(typ="safe", pure=True).load(self.LOCK)
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
        found = locked_outs(path, without="report")
        assert found == locked_outs(ROOT / "dvc.lock", without="report")
        assert len(found) == sum(
            len(entry.get("outs", [])) for stage, entry in content["stages"].items() if stage != "report"
        )

    @pytest.mark.parametrize("end", [len(LOCK) // 2, len(LOCK) // 2 + 40, 20, 0, 1000])
    def test_cut_it_is_read_or_told(self, tmp_path: Path, end: int) -> None:
        self.told_or_read(tmp_path / "dvc.lock", self.LOCK[:end])

    @pytest.mark.parametrize(
        "text",
        [
            BOMB,
            "stages: 3\n",
            "stages:\n  a:\n",
            "stages:\n  a:\n    outs: [1]\n",
            "[]\n",
            "<<<<<<< HEAD\n",
            "[" * 5000,
        ],
    )
    def test_damage_is_told(self, tmp_path: Path, text: str) -> None:
        assert not self.told_or_read(tmp_path / "dvc.lock", text)

    def told_or_read(self, path: Path, text: str) -> bool:
        path.write_text(text, encoding="utf-8")
        try:
            locked_outs(path, without="report")
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            assert str(error).endswith("; restore it with: git checkout dvc.lock, or remove it and run: dvc repro")
            return False
        return True
