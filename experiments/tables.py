"""The rows of each table: the settings that they change, the paper's figures, and the steps that are scored.

The paper's ablations are table1, table2, table3 and figure4, its hosts are table4; `seeds` is params.yaml unchanged.
"""

from pathlib import Path
from typing import Any, NamedTuple

from cpal.errors import UserError
from cpal.settings.profiles import load_profile

Change = dict[str, Any]
SEED_TO_MASK = ("seed", "crf", "pseudo_mask")
PAPER_HOSTS = {  # Table 4, VOC 2012 train: seed, with CRF, mask
    "irn": (48.8, 53.7, 66.5),
    "irn + CPAL": (62.5, 66.2, 72.7),
    "amn": (62.1, 66.1, 72.2),
    "amn + CPAL": (65.7, 68.2, 74.1),
}


class Row(NamedTuple):
    """A row of a table: the settings that it changes, the paper's figure, and the map that is scored."""

    name: str
    change: Change
    paper: float | None = None
    score: str = "pacam"


TABLES = ("table1", "table2", "table3", "table4", "figure4", "seeds")


def rows(table: str, present: dict[str, Any]) -> list[Row]:
    """The rows of a table, as changes of the present settings."""
    if table == "seeds":
        return [Row("params.yaml", {})]
    if table == "table4":
        return hosts(present)
    cpal = present["cpal"]
    if cpal["projection"]:
        raise UserError(
            f"cpal.projection: {cpal['projection']}: it learns with L_Self, and most rows of {table} have none; set it "
            "to 0, or merge the profile default"
        )
    every, few = cpal["num_prototypes"], cpal["topk"]
    one_lesson: Change = {"taught_cam.crf_rounds": 0}  # the CRF changes only the taught CAM, and takes time
    frozen: Change = {"cpal.self_weight": 0.0, **one_lesson}  # all rows with these settings share one plain training
    printed: Change = {"cpal.self_weight": 1.0, **one_lesson}
    plain = {**frozen, "cpal.align": "none"}
    raw = {**frozen, "cpal.normalize_prototypes": False}
    taught = [
        Row("V. + L_self, as the taught CAM, one lesson (ours)", frozen, 62.5, "taught"),
        Row("V. L_self as printed, and the taught CAM", printed, None, "taught"),
        Row(
            "V. as the taught CAM, once more through a CRF (ours)",
            {**frozen, "taught_cam.crf_rounds": 1},
            None,
            "taught",
        ),
    ]
    vanilla = {"cpal.topk": every, "cpal.weighting": "none"}
    unrefined = [
        Row("IV without refinement (ours)", {**frozen, "cpal.refinements": 0}),
        Row("III without refinement", {**plain, "cpal.refinements": 0}),
        Row("II without refinement", {**plain, **vanilla, "cpal.refinements": 0}),
    ]
    paper_banks = {100: 61.5, 500: 62.0, 800: 62.3, 1000: 62.5}
    return {
        "table1": [
            Row("I. classifier alone: CAM", frozen, 50.1, "cam"),
            Row("II. + vanilla context prototypes", {**plain, **vanilla}, 51.2),
            Row("III. + prototype-aware (K, positiveness)", plain, 54.5),
            Row("IV. + feature alignment", frozen, 56.8),
            Row("IV with a shift that all images share", {**frozen, "cpal.align": "ema", "cpal.align_strength": None}),
            Row("V. + L_self, as printed", printed, 62.5),
            *(taught if present["taught_cam"]["decay"] else []),
            Row("CAM of V, as printed", printed, None, "cam"),
            *(unrefined if cpal["refinements"] else []),
            Row("III with the instance alone, no context", {**plain, "cpal.topk": 0}),
            Row("preset sipe", preset("sipe")),
            Row("preset literal", preset("literal")),
        ],
        "table2": [
            Row(f"neighbours, positiveness, K = {few}", frozen, 62.5),
            Row(f"mean of all {every}", {**frozen, **vanilla}, 59.2),
            Row(f"neighbours alone, K = {few}", {**frozen, "cpal.weighting": "none", "cpal.rank_by": "cosine"}, 60.3),
            Row(f"K = {few // 2}", {**frozen, "cpal.topk": few // 2}, 61.3),
            Row(f"K = {every}", {**frozen, "cpal.topk": every}, 60.1),
        ],
        "table3": [
            Row("L1", {**raw, "cpal.metric": "l1"}, 59.6),
            Row("L2", {**raw, "cpal.metric": "l2"}, 58.7),
            Row("cosine", {**raw, "cpal.metric": "cosine"}, 61.9),
            Row("dot product", {**raw, "cpal.metric": "dot"}, 62.5),
        ],
        "figure4": [
            *(
                Row(f"tau = {tau}", {**frozen, "cpal.mask_threshold": tau}, paper)
                for tau, paper in [(0.05, 62.0), (0.1, 62.5), (0.15, 61.7), (0.2, 61.4)]
                + [(tau, None) for tau in (0.4, 0.6, 0.8)]
            ),
            *(  # small data sets never fill the paper's banks
                Row(f"bank of {length}", {**frozen, "cpal.bank_length": length}, paper_banks.get(length))
                for length in sorted({every, 2 * every, 4 * every, *paper_banks})
                if length >= every
            ),
        ],
    }[table]


def hosts(present: dict[str, Any]) -> list[Row]:
    """The rows of Table 4: each host alone, and with CPAL; all with IRN's random walk, as in the paper.

    Each host needs its own thresholds. For irn, they are in the present settings. For amn, they are known only for the
    data of the profile voc-animals: with these data, the rows of amn use the profile voc-animals-amn. With other data,
    the rows of amn change only the host. Raises UserError if the present settings are for another host: then the
    thresholds of irn are unknown.
    """
    if present["host"] != "irn":
        raise UserError(
            f"host: {present['host']}: table4 starts from the settings of host irn; "
            "git checkout params.yaml, then merge the profile of your data alone"
        )
    alone: Change = {"cpal.self_weight": 0.0, "seeds.source": "cam", "taught_cam.crf_rounds": 0}
    walk: Change = {"affinity.method": "irn"}
    animals = has_data_of("voc-animals", present)
    amn = {**walk, **(preset("voc-animals-amn") if animals else {"host": "amn"})}
    # Edges learn from sure labels, whose thresholds depend on the map; a plain CAM takes those of AMN's first round.
    sure = {
        f"affinity.{key}": amn.get(f"hosts.amn.{key}", present["hosts"]["amn"][key])
        for key in ("sure_background", "sure_foreground")
    }
    flat: Change = {"affinity.sure_background": 0.48, "affinity.sure_foreground": 0.68} if animals else {}
    return [
        Row("irn", {**walk, **alone, **sure}),
        Row("irn + CPAL", walk),
        Row("amn", {**amn, **alone, **flat}),  # the CAM of amn is flatter than the taught CAM
        Row("amn + CPAL", amn),
    ]


def steps(table: str) -> tuple[str, ...]:
    """The steps that a table scores, as in the names of the stages evaluate_NAME."""
    return {"table4": SEED_TO_MASK, "seeds": (*SEED_TO_MASK, "segmentation")}.get(table, ("seed",))


def preset(name: str) -> Change:
    """A profile as `section.key` -> value; `host` has no section."""
    return _flat(_profile(name))


def _flat(values: dict[str, Any], prefix: str = "") -> Change:
    change: Change = {}
    for key, value in values.items():
        change |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return change


def has_data_of(name: str, present: dict[str, Any]) -> bool:
    """Whether the settings use the data of a profile; the data may lie in any folder."""
    return all(present["data"][key] == value for key, value in _profile(name)["data"].items())


def _profile(name: str) -> dict[str, Any]:
    return load_profile(Path(f"profiles/{name}.yaml"))
