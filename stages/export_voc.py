"""Check label maps and pack them in a tar for the VOC test server.

The tar holds results/VOC2012/Segmentation/comp5_test_cls/ID.png.
"""

from pathlib import Path
from typing import Annotated

import typer

from cpal.errors import UserError
from cpal.segmentation.voc_server import write_submission
from stages.job.run import run


def main(
    masks: Annotated[Path, typer.Argument(metavar="DIR", help="Label maps ID.png, as stages.predict writes them.")],
    images: Annotated[Path, typer.Argument(metavar="LIST", help="The ids, as ImageSets/Segmentation/test.txt.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write, .tar.")],
) -> None:
    try:
        names = list(dict.fromkeys(images.read_text(encoding="utf-8-sig").split()))
    except UnicodeDecodeError:
        raise UserError(f"{images}: no text, but the list of ids is one, such as test.txt") from None
    write_submission(target, masks, names)
    print(f"{target}: {len(names)} label maps")


if __name__ == "__main__":
    run(main)
