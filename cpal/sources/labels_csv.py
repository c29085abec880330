"""The table of image-level labels: image,labels or image,labels,split."""

import csv
from pathlib import Path

from cpal.errors import UserError
from cpal.settings.access import check_readable


def read_labels_csv(path: Path, problems: list[str]) -> list[tuple[str, frozenset[str], str | None]]:
    """Image, class names, split (None without that column) of each line `image,labels[,split]`; `;` between names."""
    try:
        check_readable(path, missing="no such file; put it there, or name another one in data.labels_file")
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.reader(stream))
    except UserError as error:
        problems.append(str(error))
        return []
    except OSError as error:
        problems.append(f"{path}: unreadable ({error.strerror}); copy the file anew")
        return []
    except (UnicodeDecodeError, csv.Error) as error:
        problems.append(f"{path}: not a csv file in UTF-8 ({error}); save it as one")
        return []
    header = [cell.strip() for cell in rows[0]] if rows else []
    if header not in (["image", "labels"], ["image", "labels", "split"]):
        problems.append(f"{path}: the first line must be image,labels or image,labels,split")
        return []
    found: dict[str, tuple[str, frozenset[str], str | None]] = {}
    for line, row in enumerate(rows[1:], 2):
        cells = [cell.strip() for cell in row]
        if row and len(row) != len(header):
            what = ",".join(header)
            problems.append(f"{path}, line {line}: {len(row)} columns; write {what} with ; between class names")
        elif row and not cells[0]:
            problems.append(f"{path}, line {line}: names no image")
        elif row:
            if cells[0] in found:
                problems.append(f"{path}, line {line}: image {cells[0]} for the second time")
            names = frozenset(name.strip() for name in cells[1].split(";") if name.strip())
            found[cells[0]] = cells[0], names, cells[2] if len(cells) > 2 else None
    return list(found.values())
