"""What each kind of signal counts, by itself and as `fraud.weights` has it."""

import re
from collections.abc import Sequence

# A referral whose signals come to `fraud.review_at` is reviewed. What somebody reports has the weight that they give it.
DEFAULT_WEIGHTS = {
    "same-email": 100,
    "same-payment": 100,
    "same-device": 60,
    "seen-before": 60,
    "disposable-email": 50,
    "refunds": 50,
    "burst": 40,
    "bot-click": 40,
    "same-network": 30,
    "same-domain": 20,
    "too-fast": 20,
    "blocked": 100,
}
MOST_WEIGHT = 1_000
_ENTRY = re.compile(r"([a-z-]+)=(\d{1,4})")


def weights(entries: tuple[str, ...]) -> str | None:
    """Kinds of signals and what they count, each once."""
    found = [_ENTRY.fullmatch(entry) for entry in entries]
    wrong = [
        entry
        for entry, match in zip(entries, found, strict=True)
        if match is None or match[1] not in DEFAULT_WEIGHTS or int(match[2]) > MOST_WEIGHT
    ]
    if wrong:
        return f"must list kinds of signals and weights of 0 to 1000, such as same-network=10, not {wrong[0]!r}"
    kinds = {match[1] for match in found if match}
    return None if len(kinds) == len(entries) else "must list each kind once"


def weights_of(entries: Sequence[str]) -> dict[str, int]:
    """What each kind counts where the setting has these entries; 0 for one that is switched off."""
    given = (entry.partition("=") for entry in entries)
    return DEFAULT_WEIGHTS | {kind: int(weight) for kind, _, weight in given}
