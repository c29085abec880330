"""Settings of an older params.yaml that have another name now, so that its user is told each new one."""

MOVED = {  # a key, or a section with all its keys
    "classifier": "hosts.irn",
    "amn": "hosts.amn",
    "mctformer": "hosts.mctformer",
    "clip_es": "hosts.clip_es",
    "cam.source": "seeds.source",
    "cam.maps": "seeds.maps",
    "cam.cam_threshold": "seeds.cam_threshold",
    "cam.pacam_threshold": "seeds.pacam_threshold",
    "cam.taught_threshold": "seeds.taught_threshold",
    "affinity.start": "walk.start",
    "affinity.background": "walk.background",
    "affinity.powers": "walk.powers",
    "affinity.walk_radius": "walk.radius",
    "affinity.walk_steps": "walk.steps",
    "affinity.beta": "walk.beta",
    "segmentation.test_scales": "final_test.scales",
    "segmentation.test_flip": "final_test.flip",
    "test_crf": "final_test.crf",
}
GONE = {"affinity.head_learning_rate": "the displacement branch was not used"}


def moved_lines(key: str, value: object) -> list[str]:
    """What to tell the user of an unknown key: a line for it, or for each key of an old section; none if it is not old.

    A section's own line stands for one that holds no keys.
    """
    if key in GONE:
        return [f"{key}: is gone ({GONE[key]})"]
    if key not in MOVED:
        return []
    inner = [f".{name}" for name in value] if isinstance(value, dict) and value else [""]
    return [f"{key}{name}: is now {MOVED[key]}{name}" for name in inner]
