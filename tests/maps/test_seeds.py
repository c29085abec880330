"""The rule that makes seeds of maps."""

from collections.abc import Callable

from cpal.maps.seeds import seed_rule
from cpal.settings.config import Config


def test_each_map_has_its_own_threshold(settings: Callable[..., Config]) -> None:
    thresholds = {"cam": 0.11, "pacam": 0.22, "taught": 0.33}
    changes = {f"seeds.{name}_threshold": value for name, value in thresholds.items()}
    rule = seed_rule(settings(**changes, **{"seeds.source": "pacam"}).seeds)
    assert (rule.source, dict(rule.thresholds)) == ("pacam", thresholds)
