"""Tables that a narrow window shows row by row, each cell with the name of its column before it."""

import re

from markupsafe import Markup, escape

# What is written where a cell has nothing to say.
DASH = "\u2013"
# Characters of a word that widens its column until it fits; an address reads badly in two lines.
LONGEST_WORD, LONGEST_ADDRESS = 26, 40

_HEADING = re.compile(r'<th scope="col"[^>]*>(.*?)</th>', re.DOTALL)
_ROW = re.compile(r"<tr\b[^>]*>.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<(td|th)\b([^>]*)>(.*?)</\1>", re.DOTALL)
_TAG = re.compile(r'<(thead|tbody|tr|td|th scope="col"|th scope="row")(?=[ >])')
_ANY_TAG = re.compile("<[^>]*>")
_WORD = re.compile(r"[^\s-]+")
_HIDDEN = '<span class="hidden">'
_ROLES = {
    "thead": "rowgroup",
    "tbody": "rowgroup",
    "tr": "row",
    "td": "cell",
    'th scope="col"': "columnheader",
    'th scope="row"': "rowheader",
}


def labelled(rows: Markup) -> Markup:
    """The head and the rows of a table, with what a narrow window needs, which shows each row as a block.

    Each cell has the name of its column as `data-label`, or `data-empty` where it has nothing to say; `data-endless` where a
    word has to be broken; and each part has its role, which browsers forget of a table that is shown as blocks. A column
    whose name is read aloud alone names no cell, and one over several columns has no name.

    What people wrote is escaped by then, so that each tag in the rows is a template's.
    """
    names = ["" if found.startswith(_HIDDEN) else Markup(found).striptags() for found in _HEADING.findall(rows)]  # noqa: S704

    def row(found: re.Match[str]) -> str:
        columns = iter(names)
        return _CELL.sub(lambda cell: _named(cell, next(columns, "")), found[0])

    head, body, rest = rows.partition("<tbody>")
    shown = str(head) + str(body) + _ROW.sub(row, str(rest))
    return Markup(_TAG.sub(lambda tag: f'{tag[0]} role="{_ROLES[tag[1]]}"', shown))  # noqa: S704


def _named(cell: re.Match[str], name: str) -> str:
    kind, attributes, inner = cell.groups()
    text = Markup(_ANY_TAG.sub(" ", inner)).unescape().strip()  # noqa: S704
    if text in ("", DASH):
        attributes += ' data-empty=""'
    elif name and "colspan" not in attributes:
        attributes += f' data-label="{escape(name)}"'
    if any(len(word) > (LONGEST_ADDRESS if "@" in word else LONGEST_WORD) for word in _WORD.findall(text)):
        attributes += ' data-endless=""'
    return f"<{kind}{attributes}>{inner}</{kind}>"
