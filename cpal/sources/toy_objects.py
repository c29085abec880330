"""The toy classes as jointed outlines: polygons in units of the body's length, x forward, y down, feet at 0.

cat and dog share body, legs and coats, and differ in head and tail; so do horse and cow. A classifier needs the small
part, but a segmentation needs the whole body: this is the gap that CPAL closes. Some instances have a further mark of
their class (a bib, a saddle, a blanket, patches), which can help to find other instances.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
MARKED = 0.6  # share of the instances that wear a mark of their class


@dataclass(frozen=True)
class Part:
    """outline (M, 2); paint: coat | dark | light | accent | metal | wood | cloth | glass."""

    outline: np.ndarray
    paint: str


def ellipse(center: Point, radii: Point, angle: float = 0.0) -> np.ndarray:
    """Outline (28, 2) of an ellipse turned by `angle` radians."""
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
    return np.stack(
        [center[0] + x * np.cos(angle) - y * np.sin(angle), center[1] + x * np.sin(angle) + y * np.cos(angle)], 1
    )


def limb(points: Sequence[Point], widths: Sequence[float]) -> np.ndarray:
    """Outline of a line through `points` with these widths at the points."""
    line, half = np.array(points), np.array(widths)[:, None] / 2
    along = np.gradient(line, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    return np.concatenate([line + half * normal, (line - half * normal)[::-1]])


def polygon(*points: Point) -> np.ndarray:
    return np.array(points)


def enlarged(parts: list[Part], factor: float, joint: Point) -> list[Part]:
    """The parts, `factor` times as large. The joint stays in its place."""
    return [Part((part.outline - joint) * factor + joint, part.paint) for part in parts]


def leg(rng: np.random.Generator, hip: Point, width: float) -> Part:
    """Thigh and shank from the hip to the ground, both swung a little."""
    swing, bend = rng.uniform(-0.25, 0.25), rng.uniform(-0.15, 0.15)
    knee = (hip[0] + swing * -hip[1] * 0.5, hip[1] * 0.48)
    foot = (knee[0] + bend * -hip[1] * 0.5, 0.0)
    return Part(limb([hip, knee, foot], [width * 1.7, width, width * 0.9]), "coat")


def small_quadruped(rng: np.random.Generator) -> tuple[list[Part], list[Part], Point, Point]:
    """The body of cat and dog: parts behind the head, parts before it, place of the head, place of the tail."""
    height = rng.uniform(0.24, 0.32)
    body = limb(
        [(-0.40, -height - 0.02), (-0.2, -height - 0.06), (0.1, -height - 0.05), (0.36, -height - 0.08)],
        [0.20, 0.30, 0.27, 0.24],
    )
    far = [leg(rng, (x, -height), 0.10) for x in (-0.28, 0.30)]
    near = [leg(rng, (x, -height), 0.11) for x in (-0.34, 0.25)]
    haunch = Part(ellipse((-0.32, -height - 0.04), (0.15, 0.16)), "coat")
    chest = Part(ellipse((0.30, -height - 0.05), (0.13, 0.15)), "coat")
    return [*far, Part(body, "coat"), haunch, chest], near, (0.46, -height - 0.24), (-0.42, -height - 0.1)


def cat(rng: np.random.Generator) -> list[Part]:
    body, near, (x, y), (tx, ty) = small_quadruped(rng)
    curl = rng.uniform(0.1, 0.3)
    tail = limb(
        [(tx, ty), (tx - 0.16, ty - 0.08), (tx - 0.2, ty - 0.25), (tx - 0.2 + curl, ty - 0.40)],
        [0.07, 0.06, 0.06, 0.05],
    )
    ears = [
        polygon((x + s - 0.065, y - 0.08), (x + s * 1.5, y - 0.27), (x + s + 0.065, y - 0.08)) for s in (-0.09, 0.09)
    ]
    face = [
        Part(ellipse((x, y), (0.16, 0.145)), "coat"),
        Part(ellipse((x + 0.01, y + 0.065), (0.07, 0.045)), "light"),
        *[Part(ellipse((x + s, y - 0.02), (0.022, 0.03)), "dark") for s in (-0.06, 0.065)],
        Part(polygon((x - 0.02, y + 0.03), (x + 0.03, y + 0.03), (x + 0.005, y + 0.06)), "accent"),
    ]
    head = [*[Part(ear, "coat") for ear in ears], *face]
    bib = [Part(ellipse((x - 0.12, y + 0.24), (0.07, 0.12), -0.3), "light")] if rng.random() < MARKED else []
    return [Part(tail, "coat"), *body, *near, *bib, *enlarged(head, 1.3, (x - 0.08, y + 0.14))]


def dog(rng: np.random.Generator) -> list[Part]:
    body, near, (x, y), (tx, ty) = small_quadruped(rng)
    wag = rng.uniform(-0.05, 0.1)
    tail = limb([(tx, ty), (tx - 0.1, ty - 0.12), (tx - 0.12 + wag, ty - 0.22)], [0.07, 0.05, 0.03])
    neck = limb([(x - 0.16, y + 0.16), (x - 0.02, y)], [0.2, 0.17])
    snout = limb([(x, y + 0.02), (x + 0.16, y + 0.05), (x + 0.25, y + 0.06)], [0.17, 0.11, 0.09])
    ear = limb([(x - 0.05, y - 0.10), (x - 0.11, y + 0.02), (x - 0.09, y + 0.15)], [0.06, 0.11, 0.07])
    face = [
        Part(neck, "coat"),
        Part(ellipse((x, y), (0.13, 0.125)), "coat"),
        Part(snout, "light"),
        Part(ellipse((x + 0.25, y + 0.03), (0.032, 0.028)), "dark"),
        Part(ellipse((x + 0.05, y - 0.04), (0.02, 0.022)), "dark"),
        Part(ear, "dark"),
    ]
    saddle = [Part(ellipse((-0.05, ty - 0.02), (0.24, 0.1)), "dark")] if rng.random() < MARKED else []
    return [Part(tail, "coat"), *body, *near, *saddle, *enlarged(face, 1.3, (x - 0.08, y + 0.14))]


def large_quadruped(rng: np.random.Generator) -> tuple[list[Part], list[Part], float]:
    """The body of horse and cow: parts behind, parts before, and the height of the back."""
    height = rng.uniform(0.46, 0.54)
    body = limb(
        [(-0.42, -height - 0.06), (-0.2, -height - 0.05), (0.1, -height - 0.04), (0.36, -height - 0.07)],
        [0.24, 0.32, 0.32, 0.28],
    )
    far = [leg(rng, (x, -height), 0.09) for x in (-0.30, 0.32)]
    near = [leg(rng, (x, -height), 0.10) for x in (-0.37, 0.26)]
    return [*far, Part(body, "coat"), Part(ellipse((-0.33, -height - 0.06), (0.14, 0.15)), "coat")], near, height


def horse(rng: np.random.Generator) -> list[Part]:
    body, near, height = large_quadruped(rng)
    nod = rng.uniform(-0.08, 0.1)
    top = (0.58, -height - 0.42 + nod)
    neck = limb([(0.30, -height - 0.08), (0.46, -height - 0.28 + nod / 2), top], [0.28, 0.18, 0.13])
    mane = limb(
        [(0.26, -height - 0.18), (0.40, -height - 0.36 + nod / 2), (top[0] - 0.05, top[1] - 0.06)], [0.06, 0.09, 0.05]
    )
    head = limb(
        [(top[0] - 0.02, top[1]), (top[0] + 0.12, top[1] + 0.13), (top[0] + 0.2, top[1] + 0.22)], [0.13, 0.11, 0.08]
    )
    ear = polygon((top[0] - 0.05, top[1] - 0.03), (top[0] - 0.02, top[1] - 0.15), (top[0] + 0.03, top[1] - 0.03))
    tail = limb([(-0.47, -height - 0.12), (-0.56, -height + 0.05), (-0.55, -0.15)], [0.06, 0.1, 0.05])
    eye = ellipse((top[0] + 0.05, top[1] + 0.04), (0.016, 0.018))
    front = [Part(neck, "coat"), Part(head, "coat"), Part(mane, "dark"), Part(ear, "coat"), Part(eye, "dark")]
    blanket = polygon((-0.16, -height - 0.22), (0.12, -height - 0.22), (0.13, -height + 0.06), (-0.17, -height + 0.06))
    worn = [Part(blanket, "accent")] if rng.random() < MARKED else []
    return [Part(tail, "dark"), *body, *near, *worn, *enlarged(front, 1.2, (0.30, -height - 0.08))]


def cow(rng: np.random.Generator) -> list[Part]:
    body, near, height = large_quadruped(rng)
    nod = rng.uniform(-0.06, 0.12)
    x, y = 0.56, -height - 0.20 + nod
    neck = limb([(0.32, -height - 0.08), (x, y)], [0.26, 0.18])
    head = limb([(x - 0.03, y - 0.05), (x + 0.08, y + 0.06), (x + 0.14, y + 0.14)], [0.17, 0.15, 0.13])
    muzzle = ellipse((x + 0.14, y + 0.14), (0.065, 0.055), 0.7)
    horns = [
        limb([(x + s, y - 0.10), (x + s * 2.4, y - 0.19), (x + s * 2.2, y - 0.28)], [0.06, 0.05, 0.02])
        for s in (-0.05, 0.06)
    ]
    ear = ellipse((x - 0.10, y - 0.05), (0.07, 0.03), 0.5)
    tail = limb([(-0.47, -height - 0.14), (-0.53, -height + 0.02), (-0.52, -0.22)], [0.03, 0.025, 0.02])
    tuft = ellipse((-0.52, -0.19), (0.03, 0.06))
    udder = ellipse((-0.20, -height + 0.10), (0.08, 0.05))
    front = [
        Part(neck, "coat"), Part(ear, "coat"), Part(head, "coat"), Part(muzzle, "accent"),
        *[Part(horn, "light") for horn in horns], Part(ellipse((x + 0.04, y - 0.03), (0.016, 0.018)), "dark"),
    ]  # fmt: skip
    patches = [
        Part(ellipse((px, -height + py), (0.13, 0.09), rng.uniform(-0.6, 0.6)), "light")
        for px, py in ((-0.24, -0.08), (0.1, -0.1))
        if rng.random() < MARKED
    ]
    behind = [Part(tail, "coat"), Part(tuft, "dark"), Part(udder, "accent")]
    return [*behind, *body, *near, *patches, *enlarged(front, 1.3, (0.32, -height - 0.08))]


def boat(rng: np.random.Generator) -> list[Part]:
    """Hull, cabin, and a mast with one or two sails."""
    draft, mast = rng.uniform(0.2, 0.28), rng.uniform(0.45, 0.65)
    hull = polygon((-0.5, -draft), (0.5, -draft - 0.05), (0.36, 0), (-0.38, 0))
    stripe = polygon((-0.48, -draft * 0.75), (0.46, -draft * 0.85), (0.44, -draft * 0.6), (-0.46, -draft * 0.5))
    parts = [Part(limb([(0.02, -draft), (0.02, -draft - mast)], [0.03, 0.02]), "wood")]
    parts += [Part(polygon((0.05, -draft - mast), (0.05, -draft - 0.1), (0.42, -draft - 0.1)), "cloth")]
    if rng.random() < 0.6:
        parts += [Part(polygon((-0.01, -draft - mast * 0.9), (-0.01, -draft - 0.1), (-0.3, -draft - 0.1)), "cloth")]
    parts += [Part(hull, "coat"), Part(stripe, "accent")]
    if rng.random() < 0.6:
        parts += [
            Part(polygon((-0.34, -draft), (-0.34, -draft - 0.13), (-0.08, -draft - 0.13), (-0.08, -draft)), "light"),
            Part(
                polygon((-0.3, -draft - 0.04), (-0.3, -draft - 0.1), (-0.2, -draft - 0.1), (-0.2, -draft - 0.04)),
                "glass",
            ),
        ]
    return parts


def train(rng: np.random.Generator) -> list[Part]:
    """A steam engine with chimney, cab and wheels, and a wagon with windows behind it."""
    parts = [Part(polygon((-0.06, -0.1), (-0.06, -0.34), (0.0, -0.34), (0.0, -0.1)), "dark")]
    parts += [Part(polygon((-0.5, -0.08), (-0.5, -0.36), (-0.06, -0.36), (-0.06, -0.08)), "coat")]
    parts += [
        Part(polygon((x, -0.2), (x, -0.3), (x + 0.08, -0.3), (x + 0.08, -0.2)), "glass") for x in (-0.46, -0.34, -0.22)
    ]
    parts += [
        Part(polygon((0.12, -0.08), (0.12, -0.28), (0.46, -0.28), (0.46, -0.08)), "metal"),
        Part(ellipse((0.46, -0.18), (0.035, 0.1)), "dark"),
        Part(polygon((0.0, -0.08), (0.0, -0.42), (0.16, -0.42), (0.16, -0.08)), "coat"),
        Part(polygon((0.03, -0.26), (0.03, -0.37), (0.12, -0.37), (0.12, -0.26)), "glass"),
        Part(limb([(0.36, -0.26), (0.36, -0.34), (0.36, -0.42)], [0.05, 0.05, 0.09]), "dark"),
        Part(polygon((0.4, 0.0), (0.54, 0.0), (0.46, -0.1), (0.4, -0.1)), "accent"),
    ]
    wheels = [(-0.42, 0.05), (-0.28, 0.05), (-0.14, 0.05), (0.08, 0.075), (0.24, 0.075), (0.38, 0.05)]
    for x, radius in wheels:
        parts += [Part(ellipse((x, -radius), (radius, radius)), "dark")]
        parts += [Part(ellipse((x, -radius), (radius * 0.4, radius * 0.4)), "metal")]
    return parts


OBJECTS: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "cat": cat,
    "dog": dog,
    "horse": horse,
    "cow": cow,
    "boat": boat,
    "train": train,
}
