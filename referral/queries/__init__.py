"""One function, one statement of `sql/`: connection first, a frozen dataclass or None out."""
