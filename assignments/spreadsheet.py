"""Tables as spreadsheets write them: with commas, semicolons or tabs, in UTF-8 or not."""

import csv
import io

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet calculates begins so


def rows(path):
    """Rows of a CSV or text file, each a list of texts."""
    raw = path.read_bytes()
    try:
        content = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        content = raw.decode("cp1252", errors="replace")
    first = next((line for line in content.splitlines() if line.strip(" #")), "")
    delimiter = max(",;\t", key=first.count)
    return list(csv.reader(io.StringIO(content, newline=""), delimiter=delimiter))


def read(path, needed):
    """Rows of a table with a first line of names, each a dictionary; none if there is no file."""
    if not path.exists():
        return []
    columns, *lines = rows(path) or [[]]
    missing = [column for column in needed if column not in columns]
    if missing:
        raise ValueError(
            f"{path}: the first line has to name the columns {', '.join(needed)}; "
            f"missing: {', '.join(missing)}. Repair it, or move the file away"
        )
    empty = [""] * len(columns)  # spreadsheets leave out empty cells at the end of a line
    return [dict(zip(columns, line + empty, strict=False)) for line in lines if line]


def write(path, columns, rows):
    new = path.with_suffix(".new")  # so that a run that is stopped leaves the old file whole
    with open(new, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    new.replace(path)


def text(text):
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in FORMULA else text


def plain(text):
    """The inverse of :func:`text`."""
    return text[1:] if text[:1] == "'" and text[1:2] in FORMULA else text
