"""The passwords that everybody tries first: the 30,000 most common ones of what has leaked, as zxcvbn lists them."""

import runpy
from functools import cache
from importlib.metadata import distribution

from referral.texts import key_of


def is_common(password: str) -> bool:
    """Whether the password is one of the list, in any case. The first call reads it, which takes some 20 ms."""
    return key_of(password) in _list()


@cache
def _list() -> frozenset[str]:
    # Only the file is run: importing the library makes tables of this and five other lists, at ten times the memory.
    file = distribution("zxcvbn").locate_file("zxcvbn/frequency_lists.py")
    return frozenset(runpy.run_path(str(file))["FREQUENCY_LISTS"]["passwords"])
