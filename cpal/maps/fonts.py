"""Fonts for names in any script: Pillow's own font for ASCII, else the first system font that has the characters."""

import os
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import ImageFont

TEXT_SIZE = 15
FOLDERS = (  # of fonts on Linux, macOS and Windows
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts"),
)
STYLES = ("bold", "italic", "oblique", "black", "thin", "light", "math", "mono", "serif", "condensed")  # tried last
NO_CHARACTER = "\U0010ffff"  # for this code, every font draws its sign for a missing character
Font = Any  # Pillow has several kinds


@cache
def own_font() -> Font:
    return ImageFont.load_default(TEXT_SIZE)


def parts(text: str) -> list[tuple[str, Font]] | None:
    """The whole text with one font, or its parts with a font each; None if no font has one of the characters."""
    if all(_has(own_font(), character) for character in text):
        return [(text, own_font())]
    if (whole := _system_font(text)) is not None:
        return [(text, whole)]
    found = []
    for own, group in groupby(text, key=lambda character: _has(own_font(), character)):
        part = "".join(group)
        font = own_font() if own else _system_font(part)
        if font is None:
            return None
        found.append((part, font))
    return found


def drawable(name: str, number: int) -> str:
    """The name of a class, or its number if no font has the characters."""
    return name if parts(name) is not None else str(number)


def note(names: Sequence[str]) -> str | None:
    """A sentence that lists the names drawn as numbers, or None; `names` belong to the classes 1, 2, ..."""
    lacking = [f"{number} {name}" for number, name in enumerate(names, 1) if parts(name) is None]
    if not lacking:
        return None
    return f"no font here has the characters of some classes: pictures show their numbers ({', '.join(lacking)})"


def _has(font: Font, character: str) -> bool:
    if character.isspace() or unicodedata.category(character) == "Cf":  # an invisible character
        return True
    return _look(font, character) != _look(font, NO_CHARACTER)


def _look(font: Font, character: str) -> tuple[Any, bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)


@cache
def _system_font(text: str) -> Font | None:
    """The first system font that has every character of the text."""
    for path in _font_files():
        try:
            font = ImageFont.truetype(str(path), TEXT_SIZE)
            if all(_has(font, character) for character in text):
                return font
        except (OSError, ValueError):  # a damaged font, or a bitmap font of other sizes
            continue
    return None


@cache
def _font_files() -> tuple[Path, ...]:
    """Font files of the system, plain styles first."""
    files = [
        Path(parent, name)
        for folder in FOLDERS
        for parent, _, names in os.walk(os.path.expanduser(folder))
        for name in names
        if name.lower().endswith((".ttf", ".otf", ".ttc"))
    ]
    return tuple(sorted(files, key=lambda path: (any(style in path.name.lower() for style in STYLES), str(path))))
