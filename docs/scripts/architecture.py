"""Draw the sub-packages of cpal/ and the imports between them into docs/architecture.svg.

python -m docs.scripts.architecture

An arrow that follows from two others is left out: stages -> method -> maps stands for stages -> maps too. The words in
the boxes are those of cpal/__init__.py.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import fill

import matplotlib
import networkx as nx
from grandalf.graphs import Edge, Graph, Vertex
from grandalf.layouts import SugiyamaLayout
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as MplPath

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs/architecture.svg"
STAGES = {"stages": "one command for each stage"}
COLORS = {"stages": "#fde7c8", "method": "#cfe3f7"}  # where a reader starts; all others are gray
LINE = "#5a6675"
WIDTH, HEIGHT = 124, 78  # of a box, in points


def sub_packages() -> dict[str, str]:
    """Name and content of each, in the order of cpal/__init__.py: each imports only from those before it."""
    text = ast.get_docstring(ast.parse((ROOT / "cpal/__init__.py").read_text(encoding="utf-8"))) or ""
    block = text.partition("sub-packages above it:\n")[2].partition("\n\n")[0]
    return dict(re.findall(r"^(\w+) +(.+)$", block, re.MULTILINE))


def imports() -> nx.DiGraph:
    """An edge from each sub-package, and from stages/, to each sub-package of which it imports a module."""
    graph = nx.DiGraph()
    graph.add_nodes_from([*sub_packages(), *STAGES])
    for path in [*(ROOT / "cpal").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        parts = path.relative_to(ROOT).parts
        source = parts[0] if parts[0] == "stages" else parts[1]
        for name in imported(path):
            target = (name.split(".") + [""])[1]
            if name.startswith("cpal.") and source in graph and target in graph and source != target:
                graph.add_edge(source, target)
    return graph


def imported(path: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class Box:
    """What grandalf asks of the picture of a vertex: its size; it writes the center `xy`."""

    w, h = WIDTH, HEIGHT
    xy = (0.0, 0.0)


class Line:
    """The same of an edge. grandalf hands the points to `setpath`: both centers, and a gap in each row between."""

    points: list[tuple[float, float]] = []

    def setpath(self, points: list[tuple[float, float]]) -> None:
        """From the lower side of a box to the upper side of another, and upright through the gaps."""
        (x, y), *gaps, (to_x, to_y) = points
        inner = [point for gap_x, gap_y in gaps for point in ((gap_x, gap_y - HEIGHT / 2), (gap_x, gap_y + HEIGHT / 2))]
        next_x, last_x = (inner[0][0], inner[-1][0]) if inner else (to_x, x)
        start = (towards(x, next_x), y + HEIGHT / 2)
        self.points = [start, *inner, (towards(to_x, last_x), to_y - HEIGHT / 2)]


def towards(x: float, other: float) -> float:
    """A point of the side of a box at x that lies towards another x."""
    return x + max(-WIDTH / 3, min(WIDTH / 3, 0.25 * (other - x)))


def laid_out(graph: nx.DiGraph) -> tuple[dict[str, Box], dict[tuple[str, str], Line]]:
    """Rows in which all arrows point down, and lines that pass between the boxes."""
    vertices = {name: Vertex(name) for name in sorted(graph)}
    lines = {edge: Line() for edge in sorted(graph.edges)}
    for vertex in vertices.values():
        vertex.view = Box()
    edges = [Edge(vertices[source], vertices[target]) for source, target in lines]
    for edge, line in zip(edges, lines.values(), strict=True):
        edge.view = line
    layout = SugiyamaLayout(Graph(list(vertices.values()), edges).C[0])
    layout.xspace, layout.yspace, layout.dw = 14, 36, 12
    layout.init_all(roots=[vertices["stages"]], inverted_edges=[])
    layout.draw(20)
    return {name: vertex.view for name, vertex in vertices.items()}, lines


def draw() -> Figure:
    words = sub_packages() | STAGES
    boxes, lines = laid_out(nx.transitive_reduction(imports()))
    figure = Figure(facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for (source, target), line in lines.items():
        path = MplPath(line.points)
        arrow = FancyArrowPatch(path=path, arrowstyle="-|>", mutation_scale=9, color=LINE, shrinkA=0, shrinkB=0)
        arrow.set_gid(f"{source}-imports-{target}")
        axes.add_patch(arrow)
    for name, box in boxes.items():
        (x, y), text = box.xy, fill(words[name], 19)
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        patch = FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=6")
        patch.set(facecolor=COLORS.get(name, "#eef1f4"), edgecolor=LINE, gid=f"box-{name}")
        axes.add_patch(patch)
        axes.text(x, y - 25, name, ha="center", va="center", fontsize=14, fontweight="bold", color="#14181d")
        axes.text(x, y + 11, text, ha="center", va="center", fontsize=10.5, color="#14181d", linespacing=1.1)
    xs, ys = zip(*(box.xy for box in boxes.values()), strict=True)
    limits = (min(xs) - 0.6 * WIDTH, max(xs) + 0.6 * WIDTH), (max(ys) + 0.7 * HEIGHT, min(ys) - 0.7 * HEIGHT)
    axes.set(xlim=limits[0], ylim=limits[1])
    figure.set_size_inches((limits[0][1] - limits[0][0]) / 72, (limits[1][0] - limits[1][1]) / 72)
    return figure


def save(path: Path) -> None:
    """Without date and version, and with letters as letters, so that a page scales them and a search finds them."""
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cpal", "font.family": "sans-serif"}):
        draw().savefig(path, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    save(PICTURE)
