"""Convert DeepLab's published ResNet-101, as deeplab-pytorch stores it, for segmentation.backbone resnet101_caffe.

Afterwards set segmentation.weights to the path of the written file. Only the backbone of the file is used.
"""

from pathlib import Path
from typing import Annotated

import torch
import typer

from cpal.files import whole_file
from cpal.networks.state_dicts import read_state_dict
from cpal.segmentation.published_weights import convert
from stages.job.run import run


def main(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The published file, .pth.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, .pth.")],
) -> None:
    converted = convert(read_state_dict(source), str(source))
    with whole_file(target) as temporary:
        torch.save(converted, temporary)
    print(f"{target}: {len(converted)} tensors")


if __name__ == "__main__":
    run(main)
