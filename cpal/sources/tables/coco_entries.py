"""The entries of a JSON of COCO's form, one at a time: such a file may be larger than memory."""

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ijson

from cpal.errors import UserError
from cpal.settings.access import check_readable


def entries(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """The objects of the list `key`. Raises UserError for a file that is missing or damaged, and for no object."""
    check_readable(path, missing="no such file; put it there, or name another one in the settings, section data")
    try:
        with path.open("rb") as stream:
            if stream.read(len(BOM_UTF8)) != BOM_UTF8:
                stream.seek(0)
            for entry in ijson.items(stream, f"{key}.item", use_float=True):
                if not isinstance(entry, dict):
                    raise wrong(f"{path}: {key} holds {str(entry)[:40]!r}, which is no object")
                yield entry
    except (ijson.JSONError, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise wrong(f"{path}: damaged, or no JSON ({error})") from None


def wrong(what: str) -> UserError:
    return UserError(f"{what}; correct the file, or export it again")
