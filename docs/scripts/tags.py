"""Draws docs/results/figures/tags.png from tags.csv: what more tagged photographs buy. python -m docs.scripts.tags"""

from pathlib import Path

from experiments.plots import draw, tag_curve

if __name__ == "__main__":
    drawing, _ = draw(Path(__file__).parents[1] / "results/figures/tags.csv", tag_curve)
    drawing.unlink()  # the pages show the PNG
