"""IRN's random walk (Ahn et al., CVPR 2019): maps spread inside objects, and stop at edges.

The affinity of two cells is high if no edge lies on the line between them. IRN builds the matrix of all pairs of cells
and squares it. Here each step adds shifted maps, so that memory grows with the number of cells and not with its square.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

Offset = tuple[int, int]


def offsets(radius: int) -> list[Offset]:
    """Steps (dy, dx) shorter than `radius`; of two opposite steps only one is listed."""
    reach = range(1 - radius, radius)
    return [(y, x) for y in range(radius) for x in reach if (y > 0 or x > 0) and y * y + x * x < radius * radius]


def line(offset: Offset) -> list[Offset]:
    """Cells whose distance to the line from (0, 0) to `offset` is below 1, in the bounding box of both ends."""
    dy, dx = offset
    box = [(y, x) for y in range(dy + 1) for x in range(min(0, dx), max(0, dx) + 1)]
    return [(y, x) for y, x in box if (dy * x - dx * y) ** 2 < dy * dy + dx * dx]


def pair_affinity(edge: Tensor, offset: Offset, reach: int) -> Tensor:
    """1 - the largest edge on the line from each cell to the cell at `offset`.

    edge (..., H, W) in [0, 1] -> (..., H - reach, W - 2 reach). The result covers the cells from which every offset of
    this reach stays inside the map: rows from 0 on, and columns from `reach` on.
    """
    along = torch.stack([shifted(edge, step, reach) for step in line(offset)])
    return 1 - along.max(dim=0).values  # amax would keep the whole stack for its gradient


def shifted(map_: Tensor, offset: Offset, reach: int) -> Tensor:
    """Values (..., H - reach, W - 2 reach) at `offset` from the cells that `pair_affinity` covers; a view, no copy."""
    height, width = map_.shape[-2] - reach, map_.shape[-1] - 2 * reach
    return map_[..., offset[0] : offset[0] + height, reach + offset[1] : reach + offset[1] + width]


@torch.no_grad()
def spread(maps: Tensor, edge: Tensor, *, radius: int, beta: float, steps: int) -> Tensor:
    """Maps (C, h, w) after `steps` steps of the walk on edges (h, w) in [0, 1].

    In each step, a cell becomes the mean of itself and of the cells nearer than `radius`, weighted by affinity ** beta.
    The maps are first multiplied by 1 - edge (IRN). The area outside the image counts as edge.
    """
    reach, (height, width) = radius - 1, edge.shape
    # In double precision: rounding errors of a weight count at every step, and a nearly enclosed cell leaks by them.
    edge, dtype = edge.double(), maps.dtype
    around = F.pad(edge[None], (reach, reach, reach, reach), value=1.0)[0]
    directions, weights = [(0, 0)], [torch.ones_like(edge)]
    for offset in offsets(radius):
        affinity = pair_affinity(around[: height + 2 * reach], offset, reach) ** beta
        forth = affinity[reach:]
        back = _moved(affinity, offset, reach, height, width)
        directions += [offset, (-offset[0], -offset[1])]
        weights += [forth, back]
    weight = torch.stack(weights)
    weight /= weight.sum(dim=0)
    present = F.pad(maps * (1 - edge), (reach, reach, reach, reach))
    following = torch.zeros_like(present)
    inside = (..., slice(reach, reach + height), slice(reach, reach + width))
    for _ in range(steps):
        total = following[inside].zero_()
        for share, (dy, dx) in zip(weight, directions, strict=True):
            rows, columns = slice(reach + dy, reach + dy + height), slice(reach + dx, reach + dx + width)
            total.addcmul_(present[..., rows, columns], share)
        present, following = following, present
    return present[inside].to(dtype)


def _moved(affinity: Tensor, offset: Offset, reach: int, height: int, width: int) -> Tensor:
    """Affinity (h, w) of each cell to the cell at -offset, read from that cell; 0 if there is no such cell."""
    dy, dx = offset
    columns = F.pad(affinity, (reach, reach))
    return columns[reach - dy : reach - dy + height, reach - dx : reach - dx + width]
