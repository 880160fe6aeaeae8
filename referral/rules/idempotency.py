"""Idempotency keys: whether a call under a known id says the same as the first one."""

import hashlib
from typing import Any, NamedTuple

import orjson

from referral.contract.problems import Problem

# draft-ietf-httpapi-idempotency-key-header has no word for it; this one is Stripe's.
REPLAYED = {"Idempotency-Replayed": "true"}


class Answered(NamedTuple):
    """The answer to a call, and whether it is the first one's again."""

    document: dict[str, Any]
    is_repeated: bool


def hash_of(document: Any) -> str:
    """The SHA-256 of a JSON document as a value: neither white space nor the order of members counts, nor how a number is
    written."""
    return hashlib.sha256(orjson.dumps(_plain(document), option=orjson.OPT_SORT_KEYS)).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    # A whole number beyond 64 bits is left as it is: orjson writes none.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def id_mismatch() -> Problem:
    """For an id that was used with another body, or for something else."""
    return Problem("id-mismatch", "This id was used for something else before.")
