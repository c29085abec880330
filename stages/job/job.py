"""A stage's settings and data set, its unfinished work, and the publishing of its results."""

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cpal.data.dataset import Dataset, Record, read_dataset
from cpal.errors import UserError
from cpal.settings.config import Config
from stages.job.destination import destination
from stages.job.in_parallel import in_parallel
from stages.job.options import DEFAULT_WORKERS
from stages.job.paths import DATA, DATASET, PARAMS
from stages.job.publishing import publish
from stages.job.workdir import check_room, work_folder

BYTES_PER_PIXEL = 0.03  # that a result takes at least, of photographs: masks 0.03, CRF 0.07, maps 0.27


@dataclass(frozen=True)
class Job:
    """A stage's settings and options. `name` is that of its module, under which its unfinished work is kept."""

    name: str
    config: Config
    params: Path = PARAMS
    workers: int = DEFAULT_WORKERS
    limit: int | None = None
    out: Path | None = None

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(DATASET)

    @property
    def train(self) -> list[Record]:
        """The training images, the first `limit` of them."""
        return self.dataset.split("train", self.limit)

    @property
    def predicted(self) -> list[Record]:
        """The images that predict_segmentation labels: validation images, then the chosen training images.

        There are at most `limit` of each.
        """
        images, seed = self.config.evaluate.train_images, self.config.seed
        chosen = self.dataset.predicted(self.limit, images=images, seed=seed)
        return [*self.dataset.split("val", self.limit), *chosen]

    @property
    def maps(self) -> Path:
        """The folder of the maps that seeds are made from."""
        return Path(self.config.seeds.maps)

    def target(self, out: Path) -> Path:
        """Where an output goes: to its place, or below --out. To be asked for before any work."""
        return destination(out, self.limit, self.out)

    def work(self, settings: Any, *, inputs: Sequence[Path] = ()) -> Path:
        """The folder of this stage's unfinished work, which may hold some to continue.

        `settings` are all values that the work depends on; `inputs` are files that only a setting names.
        """
        values = {"seeds.maps": self.config.seeds.maps, "host": self.config.host}
        return work_folder(self.name, [settings, self.limit], values=values, inputs=inputs)

    def left(
        self,
        records: Iterable[Record],
        done: Path,
        read: Callable[[Record], Any],
        *,
        bytes_per_pixel: float = BYTES_PER_PIXEL,
    ) -> list[Record]:
        """The records whose file is not in the folder `done` yet; the folder is made.

        `read` reads a record's file as the next stage does. A file that it refuses is damaged, as by a loss of power
        while it was written, and counts as not done. Raises UserError when the disk cannot hold the results.
        """
        done.mkdir(parents=True, exist_ok=True)
        present = {path.stem for path in done.iterdir()}
        left = [record for record in records if record.image_id not in present or not _reads(read, record)]
        check_room(done, bytes_per_pixel * sum(record.width * record.height for record in left))
        return left

    def each(self, what: str, function: Callable[[Record, Path], Any], records: Sequence[Record]) -> None:
        """Call `function` with each record and the path of its image, see `in_parallel`."""
        in_parallel(self.workers, what, function, records, [self.dataset.image_path(record) for record in records])

    def continues(self, done: Path, load: Callable[[Path], object]) -> bool:
        """Whether `load` could take up a finished part of this stage's work; a damaged one is made again, and told."""
        if not done.exists():
            return False
        try:
            load(done)
        except UserError as error:
            print(f"{error.args[0].partition(';')[0]}; it is made again", file=sys.stderr)
            done.unlink(missing_ok=True)  # another process may have been faster
            return False
        return True

    @property
    def scratch(self) -> Path:
        """A folder on the outputs' disk, and no output, for what is not whole yet."""
        return self.out or DATA

    def publish(
        self, folder: Path, outs: dict[str, Path], *, keep: bool = False, files: Collection[str] | None = None
    ) -> None:
        """Make folder/NAME the output of each name, see `publishing.publish`."""
        publish(folder, outs, scratch=self.scratch, keep=keep, files=files)

    def publish_images(
        self,
        folder: Path,
        name: str,
        out: Path,
        records: Sequence[Record],
        ending: str,
        *,
        within: Sequence[str] = ("",),
    ) -> None:
        """Make folder/NAME the output: the files of these images, all of them and nothing else.

        `within`: the folders below NAME that hold a file of each image; "" is NAME itself.
        """
        files = {(Path(part) / f"{record.image_id}{ending}").as_posix() for record in records for part in within}
        self.publish(folder, {name: out}, files=files)


def _reads(read: Callable[[Record], Any], record: Record) -> bool:
    try:
        read(record)
    except UserError:
        return False
    return True
