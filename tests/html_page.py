"""A page of HTML as tests read it."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID_ELEMENTS = {"meta", "img", "input"}


class Page(HTMLParser):
    """Tags with attributes, all text, and the cells of each table row; complains of tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def images(self) -> list[np.ndarray]:
        sources = [attributes["src"] or "" for tag, attributes in self.tags if "data-layer" in attributes]
        return [np.array(Image.open(io.BytesIO(base64.b64decode(s.partition("base64,")[2])))) for s in sources]

    def headings(self) -> list[str]:
        return [tag for tag, _ in self.tags if tag in ("h1", "h2")]

    def layers(self) -> list[str]:
        """Titles of the layers of all images, image by image."""
        return [attributes["data-layer"] or "" for _, attributes in self.tags if "data-layer" in attributes]
