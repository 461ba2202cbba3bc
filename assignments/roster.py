"""The class list, and which of its students a name is: names are written in many ways."""

import re
import unicodedata
from pathlib import Path

from assignments import spreadsheet

FIRST = {"first name", "firstname", "given name", "forename"}
LAST = {"surname", "last name", "lastname", "family name"}
OTHER = {"student", "name", "full name", "id", "username", "user", "login", "email"}
OTHER |= {"email address", "e-mail"}


def key(name):
    """What of a name is compared: letters and digits, without accents, capitals and order.

    Only accents of Latin, Greek and Cyrillic letters; other scripts write vowels as such marks.
    """
    plain = re.sub("[\u0300-\u036f]", "", unicodedata.normalize("NFKD", name.casefold()))
    words = "".join(c if _of_a_word(c) else " " for c in plain).split()
    return tuple(sorted(words)) or (name,)


def _of_a_word(character):
    return unicodedata.category(character)[0] in "LMN"


def class_list(path):
    """Students of a list: the first column of a CSV file names them, the others are other names.

    If its first line says that the first two columns are first name and surname, these are the
    name.
    """
    if not Path(path).is_file():
        raise ValueError(f"CLASS names {str(path)!r}, which is no file")
    rows = [[cell.strip() for cell in row] for row in spreadsheet.rows(Path(path))]
    rows = [row for row in rows if any(row) and not row[0].startswith("#")]
    head = [cell.casefold() for cell in rows[0]] if rows else []
    if head and head[0] in FIRST | LAST | OTHER:
        rows = rows[1:]
        if len(head) > 1 and {bool({*head[:2]} & FIRST), bool({*head[:2]} & LAST)} == {True}:
            rows = [[" ".join(filter(None, row[:2])), *row[2:]] for row in rows]
    listed, seen = {}, {}
    for row in rows:
        row = [cell for cell in row if cell]
        same = seen.setdefault(key(row[0]), row[0])
        if row[0] in listed or same != row[0]:
            raise ValueError(
                f"{path}: the first column has to name each student once; {row[0]!r} and {same!r} "
                "are the same. Put the full name or the login there. Of two students with one "
                "name, write the platform's number behind each, as in 'Li Wei (123456)'"
            )
        listed[row[0]] = row
    return listed


def namer(listed):
    """A function: (student, account) -> the name in the list, or None.

    A platform may have written a name without its space: ``lovelaceada`` is *Lovelace, Ada*. What
    is a name of two students names neither.
    """
    names = {}
    for student, others in listed.items():
        for other in [*others, " ".join(others[:2])]:
            for known in filter(None, (key(other), "".join(key(other)))):
                names.setdefault(known, set()).add(student)
    names |= {key(student): {student} for student in listed}  # before what others are also called

    def named(student, account=""):
        words = key(student)
        tries = [key(f"{student} {account}")] if account else []
        tries += [words, "".join(words)]
        tries += [w for w in names if isinstance(w, tuple) and _consists("".join(words), w)]
        found = next((names[t] for t in tries if t in names), set())
        return next(iter(found)) if len(found) == 1 else None

    return named


def _consists(letters, words):
    """Whether the letters are those of the words, in some order."""
    if not words:
        return not letters
    return any(
        letters.startswith(word) and _consists(letters[len(word) :], words[:i] + words[i + 1 :])
        for i, word in enumerate(words)
    )
