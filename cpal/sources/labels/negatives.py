"""Names that mean "none of the classes", such as background. data.negatives lists them; they are never guessed."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from unicodedata import normalize

from cpal.sources.tables.rows import counted

ASKED = {  # names that are hardly a class
    *("background", "__background__", "bg", "negative", "negatives", "none", "normal", "nan", "null", "n/a", "na", "-"),
    *(
        "nothing",
        "empty",
        "no object",
        "no objects",
        "no_object",
        "no finding",
        "no findings",
        "unlabeled",
        "unlabelled",
    ),
    *(
        "no label",
        "nolabel",
        "no_label",
        "undefined",
        "clean",
        "false",
        "hard_negative",
        "hard negative",
        "?",
        "-1",
        "-1.0",
    ),
    *("<na>", "#n/a", "n.a.", "unknown", "unclassified", "none of the above", "healthy", "notumor"),
}
DENIED = re.compile(r"(no|not|non|without)[\s_-]+\w")  # `no_tumor`, `not cat`, `non-fire`


def plain(name: str) -> str:
    return normalize("NFC", name).casefold()


def without_negatives(
    names: Mapping[str, frozenset[str]],
    negatives: Sequence[str] | None,
    classes: Sequence[str] | None,
    problems: list[str],
) -> tuple[dict[str, frozenset[str]], str]:
    """Classes of each image without the names that mean none, and a phrase with their number.

    `negatives` None: a name that is probably no class is a problem, which asks the user, unless `classes` is set.
    """
    counts = Counter(name for shown in names.values() for name in shown)
    if negatives is None:
        asked = [name for name in counts if plain(name) in ASKED or _denies(name, counts)]
        if counts.keys() == {"0", "1"} and classes is None:
            problems.append(
                'labels 0 and 1 can be two classes, or 1 a class and 0 none: if 0 is none, set data.negatives: ["0"]; '
                "if both are classes, set data.negatives: []"
            )
        if asked and classes is None:
            problems.append(_question(asked, counts))
            return {image: shown - set(asked) for image, shown in names.items()}, ""
        return dict(names), ""
    dropped = {name for name in counts if plain(name) in set(map(plain, negatives))}
    if absent := [name for name in negatives if plain(name) not in set(map(plain, counts))]:
        problems.append(f"data.negatives: {', '.join(absent)} labels no image; correct it, or take it out")
    found = {image: shown - dropped for image, shown in names.items()}
    number = sum(bool(shown & dropped) for shown in names.values())
    return (
        found,
        f"{', '.join(sorted(dropped))} means none of the classes ({counted(number, 'image')})" if dropped else "",
    )


def _denies(name: str, names: Iterable[str]) -> bool:
    """Whether a name says that something is absent, as `no_tumor`, or is the only number, 0, among words."""
    others = {plain(other) for other in names} - {plain(name)}
    is_zero = name in ("0", "0.0") and bool(others) and not any(other[:1].isdecimal() for other in others)
    return is_zero or DENIED.match(plain(name)) is not None


def _question(asked: Sequence[str], counts: Mapping[str, int]) -> str:
    shown = ", ".join(f"{name} ({counted(counts[name], 'image')})" for name in sorted(asked))
    names = ", ".join(f'"{name}"' for name in sorted(asked))
    return (
        f"label {shown}: if it says that an image shows none of the classes, set data.negatives: [{names}]; if it is a "
        "class, set data.negatives: []"
    )
