"""The toy data set: objects drawn on textured scenes, from a seed. It is a diagnostic for the paper's claims."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from cpal.data.dataset import Record, Split, write_dataset
from cpal.data.masks import BACKGROUND, VOID, write_mask
from cpal.files import whole_file
from cpal.settings.data import ToyConfig
from cpal.sources.toy_objects import OBJECTS, Part, ellipse

CLASSES = tuple(OBJECTS)
HOMES = {"boat": "water", "train": "rails"}
NEUTRAL = ("meadow", "sand", "room", "street")
OVERSAMPLING = 3  # outlines are drawn at this multiple and averaged down
LEAST_AREA = 0.01  # an object of which less of the image shows is not on the label
COATS = ((150, 110, 70), (95, 85, 80), (60, 50, 45), (200, 180, 150), (190, 130, 70), (130, 125, 130), (110, 70, 45))
VIVID = ((190, 50, 45), (45, 90, 170), (40, 130, 80), (215, 165, 40), (120, 60, 130), (70, 140, 160))


@dataclass(frozen=True)
class Drawing:
    """image uint8 (H, W, 3), mask uint8 (H, W) of 0, 1..N and void 255, class ids shown, name of the scene."""

    image: np.ndarray
    mask: np.ndarray
    labels: tuple[int, ...]
    scene: str


def draw_dataset(folder: Path, settings: ToyConfig, *, seed: int, limit: int | None = None) -> None:
    """Write images/, masks/ and dataset.json. An image depends only on the seed, its split and its number."""
    records = []
    counts: tuple[tuple[Split, int], ...] = (("train", settings.train_images), ("val", settings.val_images))
    for split, count in counts:
        for number in range(count if limit is None else min(count, limit)):
            image_id = f"{split}_{number:04d}"
            drawing = draw_image(np.random.default_rng((seed, split == "val", number)), settings)
            image = folder / "images" / f"{image_id}.png"
            with whole_file(image) as temporary:
                Image.fromarray(drawing.image).save(temporary, format="PNG")
            write_mask(folder / "masks" / f"{image_id}.png", drawing.mask)
            height, width = drawing.mask.shape
            digest = hashlib.sha256(image.read_bytes()).hexdigest()
            paths = {"image": f"images/{image_id}.png", "mask": f"masks/{image_id}.png"}
            records.append(
                Record(
                    image_id=image_id,
                    split=split,
                    scored=True,
                    width=width,
                    height=height,
                    labels=drawing.labels,
                    sha256=digest,
                    **paths,
                )
            )
    splits = {"train": "train", "score": "train", "val": "val"}
    write_dataset(folder, records, classes=CLASSES, splits=splits, image_root=None)


def draw_image(rng: np.random.Generator, settings: ToyConfig) -> Drawing:
    """Draw an image. It is drawn again in the rare case that no object is visible enough."""
    while True:
        height, width = (int(side) for side in rng.integers(settings.min_side, settings.max_side + 1, 2))
        count = min(int(rng.geometric(0.65)), settings.max_objects)  # one object more often than several
        names = [str(rng.choice(CLASSES)) for _ in range(count)]
        scene = choose_scene(rng, names, settings)
        image = SCENES[scene](rng, height, width)
        mask = np.full((height, width), BACKGROUND, np.uint8)
        alone = {1: (0.75, 1.0), 2: (0.55, 0.75), 3: (0.45, 0.6)}.get(len(names), (0.35, 0.5))
        order = rng.permutation(len(names))
        for place, which in enumerate(order):
            slot = (place + 0.5) / len(names)
            _draw_object(rng, image, mask, names[which], rng.uniform(*alone), slot)
        if rng.random() < settings.occlusion:
            _draw_occluder(rng, image, mask)
        areas = np.bincount(mask.ravel(), minlength=len(CLASSES) + 1)
        shown = areas >= LEAST_AREA * mask.size
        mask[~shown[mask]] = VOID  # too small a rest is neither object nor background
        labels = tuple(int(n) for n in np.flatnonzero(shown) if n != BACKGROUND)
        if labels:
            noisy = image * rng.uniform(0.85, 1.15) + rng.normal(0, 4, image.shape)
            return Drawing(noisy.clip(0, 255).astype(np.uint8), void_rim(mask, settings.void_border), labels, scene)


def choose_scene(rng: np.random.Generator, names: list[str], settings: ToyConfig) -> str:
    """With probability scene_bias, the scene of the first object with a scene; else an empty or a neutral scene."""
    homes = [HOMES[name] for name in names if name in HOMES]
    if homes:
        return homes[0] if rng.random() < settings.scene_bias else str(rng.choice(NEUTRAL))
    return str(rng.choice(list(HOMES.values()) if rng.random() < settings.empty_scene else NEUTRAL))


def void_rim(mask: np.ndarray, width: int) -> np.ndarray:
    """The mask with void pixels within `width` of a border between labels, on both sides, as in VOC."""
    rim = np.zeros(mask.shape, bool)
    height, length = mask.shape
    for dy in range(-width, width + 1):
        for dx in range(-width, width + 1):
            here = (slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), length + min(0, dx)))
            there = (slice(max(0, -dy), height + min(0, -dy)), slice(max(0, -dx), length + min(0, -dx)))
            rim[here] |= mask[here] != mask[there]
    return np.where(rim, np.uint8(VOID), mask)


def _draw_object(
    rng: np.random.Generator, image: np.ndarray, mask: np.ndarray, name: str, scale: float, slot: float
) -> None:
    """Draw an object into image and mask. Size: `scale` times the short side. `slot`: horizontal place, 0 to 1."""
    height, width = mask.shape
    size = scale * min(height, width)
    turn, mirror = rng.normal(0, 0.09), rng.choice((-1, 1))
    parts = [Part(_turned(part.outline * (mirror, 1), turn) * size, part.paint) for part in OBJECTS[name](rng)]
    outline = np.concatenate([part.outline for part in parts])
    low, high = outline.min(axis=0), outline.max(axis=0)
    at = np.array([slot * width + rng.uniform(-0.12, 0.12) * width, rng.uniform(0.62, 0.95) * height])
    slack = 0.06 * size  # so much of it may leave the picture
    at = np.clip(
        at,
        np.minimum(-low - slack, (width, height) - high + slack),
        np.maximum(-low - slack, (width, height) - high + slack),
    )
    at = np.where(high - low > (width, height), ((width, height) - low - high) / 2, at)
    paints = _paints(rng, name, height, width, size)
    light = 1.12 - 0.3 * np.linspace(0, 1, height)[:, None, None]
    shade = rng.uniform(0.8, 0.95)
    for part in parts:
        cover = _coverage(part.outline + at, height, width)[..., None]
        edge = _coverage((part.outline - part.outline.mean(0)) * 1.03 + part.outline.mean(0) + at, height, width)[
            ..., None
        ]
        image *= 1 - (edge - cover).clip(min=0) * (1 - shade)  # a faint contour tells parts of one coat apart
        image += cover * (paints[part.paint] * light - image)
        mask[cover[..., 0] > 0.5] = CLASSES.index(name) + 1


def _turned(points: np.ndarray, angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return points @ np.array([[cosine, sine], [-sine, cosine]])


def _coverage(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """Share of each pixel inside the outline, float (H, W) in [0, 1]."""
    canvas = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in outline * OVERSAMPLING], fill=255)
    return np.asarray(canvas.reduce(OVERSAMPLING), np.float64) / 255


def _paints(rng: np.random.Generator, name: str, height: int, width: int, size: float) -> dict[str, np.ndarray]:
    """Texture (H, W, 3) of each paint. All animals share the same coats, so that the color tells no class."""
    animal = name not in HOMES
    base = np.array((COATS if animal else VIVID)[rng.integers(len(COATS if animal else VIVID))], float)
    base *= rng.uniform(0.8, 1.2)
    other = np.array(COATS[rng.integers(len(COATS))], float) if animal else base * 0.75
    pattern = rng.choice(("plain", "stripes", "spots", "patches") if animal else ("plain", "planks"))
    weight = _pattern(rng, str(pattern), height, width, size)[..., None]
    grain = 1 + 0.05 * _noise(rng, height, width, 2.0)[..., None]
    flat = np.ones((height, width, 1))
    accent = np.array(VIVID[rng.integers(len(VIVID))] if not animal else (215, 160, 150), float)
    return {
        "coat": (base * (1 - weight) + other * weight) * grain,
        "dark": flat * base * 0.35,
        "light": flat * (0.35 * base + 150) * grain,
        "accent": flat * accent * grain,
        "metal": flat * np.array((105, 110, 118)) * (1 + 0.25 * _noise(rng, height, width, 5.0)[..., None]),
        "wood": flat * np.array((120, 85, 55)) * grain,
        "cloth": flat * np.array((228, 224, 212)) * (1 + 0.06 * _noise(rng, height, width, 9.0)[..., None]),
        "glass": flat * np.array((150, 190, 210)) * (1 + 0.2 * _noise(rng, height, width, 6.0)[..., None]),
    }


def _pattern(rng: np.random.Generator, kind: str, height: int, width: int, size: float) -> np.ndarray:
    """Weight of the second color, (H, W) in [0, 1]."""
    if kind == "plain":
        return np.zeros((height, width))
    if kind in ("stripes", "planks"):
        angle = rng.uniform(-0.4, 0.4) if kind == "stripes" else np.pi / 2
        y, x = np.mgrid[:height, :width]
        wave = (x * np.cos(angle) + y * np.sin(angle)) / (size * rng.uniform(0.08, 0.14)) * 2 * np.pi
        return 0.5 + 0.5 * np.tanh(2 * np.sin(wave + 1.5 * _noise(rng, height, width, size / 6)))
    coarse = size / 14 if kind == "spots" else size / 6
    return 0.5 + 0.5 * np.tanh(4 * (_noise(rng, height, width, coarse) - (0.6 if kind == "spots" else 0.2)))


def _noise(rng: np.random.Generator, height: int, width: int, grain: float) -> np.ndarray:
    """Smooth noise (H, W) of about unit deviation. Its blobs are `grain` pixels wide."""
    shape = (max(2, round(width / max(grain, 1)) + 2), max(2, round(height / max(grain, 1)) + 2))
    coarse = Image.fromarray(rng.normal(0, 1, shape[::-1]).astype(np.float32))
    return 1.3 * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)


def _draw_occluder(rng: np.random.Generator, image: np.ndarray, mask: np.ndarray) -> None:
    """A bush or a post in front of everything; it is background."""
    height, width = mask.shape
    x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.75, 1.0) * height
    if rng.random() < 0.5:
        radius = rng.uniform(0.07, 0.13) * min(height, width)
        spots = [(x + rng.normal(0, radius), y + rng.normal(0, radius * 0.6)) for _ in range(7)]
        outlines = [ellipse(spot, (radius * rng.uniform(0.6, 1.1), radius * rng.uniform(0.5, 0.9))) for spot in spots]
        color = np.array((55, 95, 40)) * (1 + 0.35 * _noise(rng, height, width, 2.5)[..., None])
    else:
        thick = rng.uniform(0.03, 0.05) * width
        outlines = [
            np.array([(x + s, 0.3 * height), (x + s + thick, 0.3 * height), (x + s + thick, height), (x + s, height)])
            for s in np.arange(rng.integers(1, 3)) * 0.3 * width
        ]
        color = np.array((115, 95, 75)) * (1 + 0.2 * _noise(rng, height, width, 3.0)[..., None])
    for outline in outlines:
        cover = _coverage(outline, height, width)[..., None]
        image += cover * (color - image)
        mask[cover[..., 0] > 0.5] = BACKGROUND


def _ground(
    rng: np.random.Generator, height: int, width: int, above: np.ndarray, below: np.ndarray, rough: float
) -> tuple[np.ndarray, int]:
    """Two textured halves that meet at a horizon, float (H, W, 3), and the horizon's row."""
    horizon = int(rng.uniform(0.25, 0.5) * height)
    far = above * (1 + 0.08 * _noise(rng, height, width, width / 3)[..., None])
    texture = 0.5 * _noise(rng, height, width, 2.0) + 0.5 * _noise(rng, height, width, 9.0)
    near = below * (1 + rough * texture[..., None])
    rows = np.arange(height)[:, None, None]
    return np.where(rows < horizon + 2 * _noise(rng, 2, width, 8.0)[:1, :, None], far, near), horizon


def _tint(rng: np.random.Generator, color: tuple[int, int, int], spread: float = 18) -> np.ndarray:
    return np.array(color) + rng.normal(0, spread, 3)


def _meadow(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return _ground(rng, height, width, _tint(rng, (165, 195, 220)), _tint(rng, (95, 135, 60)), 0.22)[0]


def _sand(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return _ground(rng, height, width, _tint(rng, (180, 200, 215)), _tint(rng, (200, 175, 130)), 0.12)[0]


def _street(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Asphalt before house fronts with windows."""
    scene, horizon = _ground(rng, height, width, _tint(rng, (170, 140, 120)), _tint(rng, (115, 115, 120)), 0.12)
    for x in range(int(rng.integers(4, 14)), width - 12, 26):
        for y in range(5, horizon - 14, 20):
            scene[y : y + 12, x : x + 10] = (80, 95, 115)
    return scene


def _room(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A wall with paper stripes over a floor of boards."""
    scene, horizon = _ground(rng, height, width, _tint(rng, (205, 190, 170)), _tint(rng, (150, 110, 75)), 0.08)
    scene[:horizon] *= 1 + 0.08 * np.sign(np.sin(np.arange(width) * 2 * np.pi / rng.uniform(9, 24)))[None, :, None]
    scene[horizon::9] *= 0.7
    return scene


def _water(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Waves: noise drawn out sideways."""
    scene, horizon = _ground(rng, height, width, _tint(rng, (175, 200, 225)), _tint(rng, (50, 100, 140)), 0.06)
    waves = np.repeat(_noise(rng, height, width // 6 + 1, 2.0), 6, axis=1)[:, :width]
    scene[horizon:] *= 1 + 0.16 * waves[horizon:, :, None]
    return scene


def _rails(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Gravel, sleepers and two rails that run across."""
    scene, horizon = _ground(rng, height, width, _tint(rng, (175, 190, 200)), _tint(rng, (135, 125, 115)), 0.3)
    top = int(rng.uniform(0.66, 0.8) * height)
    for x in range(int(rng.integers(0, 10)), width, 14):
        scene[top : top + int(0.14 * height), x : x + 6] *= np.array((0.55, 0.48, 0.42))
    for y in (top + 2, top + int(0.1 * height)):
        scene[y : y + 3] = np.array((190, 190, 195)) * rng.uniform(0.8, 1.0)
    return scene


SCENES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    "meadow": _meadow,
    "sand": _sand,
    "street": _street,
    "room": _room,
    "water": _water,
    "rails": _rails,
}
