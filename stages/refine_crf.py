"""DenseCRF of every training image's seed: label and confidence."""

from dataclasses import asdict
from pathlib import Path

from joblib import Parallel, delayed

from cpal.data.dataset import Record, read_dataset, read_image
from cpal.files import whole_file
from cpal.maps.cams import read_maps
from cpal.maps.crf import refine
from cpal.maps.refined import write_crf
from cpal.maps.seeds import SeedRule, seed_scores
from cpal.settings.config import load_config
from stages.job.options import DEFAULT_WORKERS, Limit, Out, Params, Workers, destination, progress, run
from stages.job.paths import CRF, DATASET, PARAMS
from stages.job.workdir import publish, work_folder


def main(params: Params = PARAMS, workers: Workers = DEFAULT_WORKERS, limit: Limit = None, out: Out = None) -> None:
    config = load_config(params)
    crf = destination(CRF, limit, out)
    dataset = read_dataset(DATASET)
    rule = SeedRule(
        config.cam.source, config.cam.cam_threshold, config.cam.pacam_threshold, config.cam.taught_threshold
    )
    maps = Path(config.cam.maps)
    folder = work_folder(
        "refine_crf", [config.crf.model_dump(), asdict(rule), limit], values={"cam.maps": config.cam.maps}
    )
    done = folder / "crf"
    done.mkdir(exist_ok=True)

    def refine_one(record: Record, image: Path) -> None:
        content = read_maps(maps, record, rule.maps)
        refined = refine(read_image(image), seed_scores(content, rule), content.classes, config.crf)
        with whole_file(done / f"{record.image_id}.npz") as temporary:
            write_crf(temporary, refined)

    left = [r for r in dataset.split("train", limit) if not (done / f"{r.image_id}.npz").exists()]
    results = Parallel(n_jobs=max(1, workers), return_as="generator")(
        delayed(refine_one)(r, dataset.image_path(r)) for r in left
    )
    for _ in progress(results, total=len(left), what="refine CRF"):
        pass
    publish(folder, {"crf": crf})


if __name__ == "__main__":
    run(main)
