"""Settings that have been renamed since an older params.yaml, so that a message can give the new names."""

from cpal.settings.hosts import HostSection, TrainedHost

LEARNING = sorted(TrainedHost.model_fields.keys() - HostSection.model_fields.keys())
MOVED = {  # old name -> new name, of a key or of a section with all its keys
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
GONE = {
    "affinity.head_learning_rate": "the displacement branch was not used",
    **{f"hosts.clip_es.{key}": "this host learns nothing" for key in LEARNING},
}


def moved_lines(key: str, value: object) -> list[str]:
    """Message lines for an unknown key that was moved or removed; empty for any other key.

    An old section gives one line for each of its keys, or a single line if it holds no keys.
    """
    if key in GONE:
        return [f"{key}: is gone ({GONE[key]}); remove the line"]
    if key not in MOVED:
        return []
    inner = [f".{name}" for name in value] if isinstance(value, dict) and value else [""]
    return [f"{key}{name}: is now {MOVED[key]}{name}" for name in inner]
