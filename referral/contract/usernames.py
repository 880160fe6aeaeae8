"""Which usernames may be chosen: those that Unicode's UTS 39 calls highly restrictive, and that show whatever makes them
another name. Passing for somebody else takes look-alike letters: of one other script for the whole name, or Chinese among
Latin.

An account keeps a name that it chose under a former rule, and signs in by it. Words that an operator reserves are no matter
of this module (`rules/accounts.py`).
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import reduce

from unicodedataplus import script_extensions

# Default_Ignorable_Code_Point (DerivedCoreProperties.txt): most programs show nothing at all for these. The joiners of
# Persian and of Indian scripts are among them, as UTS 39 section 3.1 and RFC 8264 section 9.8 have it: two names must not
# differ by them alone.
IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# What RFC 5892 section 2.6 disallows although Unicode counts it among letters and marks: signs that lengthen a word, dot a
# syllable or repeat a letter. And modifier letters that look like punctuation: a low line, and those of no script; ʻ and ʼ
# are letters of Hawaiian and others.
NO_LETTERS = re.compile("[\u02cd\u0640\u07fa\u302e\u302f\u3031-\u3035\u303b]")
LETTERS_OF_NO_SCRIPT = "\u02bb\u02bc"
# UTS 39 section 5.4: nonspacing marks in a row that some language may need.
MOST_MARKS = 4
# Letters whose own dot hides a dot above: Soft_Dotted (PropList.txt), of what NFKC and NFD leave; and the dotless ones,
# which it turns into them.
DOTTED = frozenset("ij\u0131\u0237\u0249\u0268\u029d\u03f3\u0456\u0458\u1d96\U0001df1a")
DOT_ABOVE = "\u0307"
# Strokes through a letter, which many letters have built in, and which hide in punctuation.
OVERLAYS = frozenset("\u0334\u0335\u0336\u0337\u0338")
PUNCTUATION = frozenset("._-")

# UTS 39 section 5.1: characters of these scripts are also characters of the writing systems that mix them.
WRITING_SYSTEMS = {
    "Hani": {"Hanb", "Jpan", "Kore"},
    "Hira": {"Jpan"},
    "Kana": {"Jpan"},
    "Hang": {"Kore"},
    "Bopo": {"Hanb"},
}
# Section 5.2: those that are written with Latin letters among them.
WITH_LATIN = frozenset({"Hanb", "Jpan", "Kore"})
# Digits, punctuation and marks that go with every script.
OF_ALL_SCRIPTS = frozenset({"Zyyy", "Zinh"})


def objection_to(name: str) -> str | None:
    """What speaks against choosing this name, as a sentence, or None. The name is in NFKC, and not long."""
    if IGNORABLE.search(name):
        return "Must not hold invisible characters."
    if NO_LETTERS.search(name) or any(map(_is_of_no_script, name)):
        return "Must not hold signs that are no letters."
    if _has_hidden_marks(name):
        return f"Must not have more than {MOST_MARKS} marks on a letter, nor hidden ones."
    if len({ord(character) - int(character) for character in name if character.isdecimal()}) > 1:
        return "Must not mix digits of several scripts."
    if not _is_of_one_script(name):
        return "Must not mix letters of several scripts."
    return None


def _is_of_no_script(character: str) -> bool:
    return (
        unicodedata.category(character) == "Lm"
        and character not in LETTERS_OF_NO_SCRIPT
        and bool(_scripts_of(character) & OF_ALL_SCRIPTS)
    )


def _has_hidden_marks(name: str) -> bool:
    """Whether a mark may be drawn where nobody sees it."""
    letter = marks = ""
    # Decomposed: a letter that has a mark built in bears one.
    for character in unicodedata.normalize("NFD", name):
        if unicodedata.category(character) not in ("Mn", "Me"):
            letter, marks = character, ""
        elif (
            marks.endswith(character)
            or len(marks) == MOST_MARKS
            or (character == DOT_ABOVE and letter in DOTTED)
            or character in OVERLAYS
            or letter in PUNCTUATION
        ):
            return True
        else:
            marks += character
    return False


def _is_of_one_script(name: str) -> bool:
    """Whether one script, or one writing system that mixes scripts, has all letters; Latin may stand among those of East
    Asia, without their marks."""
    scripts = [found for found in map(_scripts_of, name) if not found & OF_ALL_SCRIPTS]
    marks = [_scripts_of(mark) for mark in name if unicodedata.category(mark) == "Mn"]
    if any("Latn" in found for found in scripts) and any(WITH_LATIN & found and "Latn" not in found for found in marks):
        return False
    others = [found for found in scripts if "Latn" not in found]
    return not others or bool(_in_all(scripts)) or bool(_in_all(others) & WITH_LATIN)


def _scripts_of(character: str) -> frozenset[str]:
    found = frozenset(script_extensions(character))
    return found.union(*(WRITING_SYSTEMS[script] for script in found & WRITING_SYSTEMS.keys()))


def _in_all(several: Iterable[frozenset[str]]) -> frozenset[str]:
    return reduce(frozenset.intersection, several)
