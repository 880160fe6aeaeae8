"""What shares and refunds come to: whole numbers of a unit's smallest part, rounded down."""

import re

# A percentage has at most four decimals, so that it is a whole number of millionths.
WHOLE = 1_000_000
PERCENT = re.compile(r"(\d{1,3})(?:\.(\d{1,4}))?")


def millionths(percent: str) -> int | None:
    """`"12.5"` as 125000 millionths; None for what is no percentage above 0, up to 100, with at most four decimals."""
    found = PERCENT.fullmatch(percent)
    if found is None or not percent.isascii():
        return None
    share = int(found[1]) * 10_000 + int((found[2] or "").ljust(4, "0"))
    return share if 0 < share <= WHOLE else None


def share_of(amount: int, share: int) -> int:
    """So many millionths of an amount."""
    return amount * share // WHOLE


def remains(value: int, *, by_percentage: bool, amount: int, refunded: int) -> int:
    """What remains of a reward of this value when so much of its event's amount is refunded: of a percentage what is left in
    proportion, of a fixed one all until the refund is whole."""
    if refunded >= amount:
        return 0
    return value * (amount - refunded) // amount if by_percentage else value
