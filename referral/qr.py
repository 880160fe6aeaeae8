"""QR codes (ISO/IEC 18004) as images of an exact size."""

import io
import struct
import zlib
from functools import lru_cache

import segno

# The margin that readers need, in modules.
QUIET_ZONE = 4
# Pixels. A module of the smallest has two, if the text has up to a hundred characters.
SMALLEST, LARGEST = 100, 2_000
WHITE, BLACK = 1, 0


@lru_cache(maxsize=200)
def svg(text: str, size: int) -> bytes:
    """The QR code of a text as an SVG image, so many pixels wide and high."""
    code = _made(text)
    modules = code.symbol_size(border=QUIET_ZONE)[0]
    image = io.BytesIO()
    code.save(image, kind="svg", border=QUIET_ZONE, scale=size / modules, light="#fff", svgclass=None, lineclass=None)
    return image.getvalue()


@lru_cache(maxsize=200)
def png(text: str, size: int) -> bytes:
    """The QR code of a text as a PNG image, so many pixels wide and high.

    Every module has the same whole number of pixels, so that it stays sharp. What is left over widens the margin. Raises
    ValueError for a text that has more modules than pixels.
    """
    rows = list(_made(text).matrix_iter(border=0))
    scale = size // (len(rows) + 2 * QUIET_ZONE)
    if scale == 0:
        raise ValueError(f"the QR code needs {len(rows) + 2 * QUIET_ZONE} pixels")
    side = len(rows) * scale
    before = (size - side) // 2
    blank = _packed([WHITE] * size)
    lines = [blank] * before
    for row in rows:
        dots = [BLACK if module else WHITE for module in row for _ in range(scale)]
        lines += [_packed([WHITE] * before + dots + [WHITE] * (size - side - before))] * scale
    lines += [blank] * (size - side - before)
    header = struct.pack(">IIBBBBB", size, size, 1, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + line for line in lines))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _made(text: str) -> segno.QRCode:
    return segno.make_qr(text, error="m")


def _packed(dots: list[int]) -> bytes:
    """Eight pixels a byte (PNG, section 7.2), black being 0."""
    padded = dots + [0] * (-len(dots) % 8)
    return int("".join(map(str, padded)), 2).to_bytes(len(padded) // 8, "big")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
