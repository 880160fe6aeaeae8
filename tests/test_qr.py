"""QR codes, read back by a real decoder (zbar)."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from referral import qr
from tests.support.browsing import chromium
from tests.support.servers import program

LINKS = [
    "http://127.0.0.1:8000/r/8ZK4M2QA?via=qr",
    "https://referrals.a-rather-long-name.example.com/with/a/path/r/A_CODE-OF-THIRTY-TWO-CHARACTERS?via=qr",
]
SIZES = [qr.SMALLEST, 128, 257, 300, qr.LARGEST]


def read(image: Path) -> str:
    """What a decoder reads in a picture."""
    command = [program("zbarimg", "zbar-tools"), "--quiet", "--raw", "--nodbus", str(image)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("link", LINKS)
def test_a_png_has_the_size_that_was_asked_for_and_is_read_back(link: str, size: int, tmp_path: Path) -> None:
    image = tmp_path / "qr.png"
    image.write_bytes(qr.png(link, size))
    assert struct.unpack(">II", image.read_bytes()[16:24]) == (size, size)
    assert read(image) == link


@pytest.mark.parametrize("link", LINKS)
async def test_an_svg_has_the_size_that_was_asked_for_and_is_read_back_as_a_browser_draws_it(
    link: str, tmp_path: Path
) -> None:
    async with chromium() as browser:
        page = await browser.new_page(viewport={"width": 700, "height": 700})
        for size in (150, 257, 600):
            svg = qr.svg(link, size)
            found = re.search(rb'<svg [^>]*width="([\d.]+)" height="([\d.]+)"', svg)
            assert found
            assert [float(side) for side in found.groups()] == [size, size]
            (tmp_path / "qr.svg").write_bytes(svg)
            await page.goto(f"file://{tmp_path}/qr.svg")
            await page.screenshot(path=tmp_path / "drawn.png")
            assert read(tmp_path / "drawn.png") == link, size


def test_a_text_with_more_modules_than_pixels_is_refused() -> None:
    with pytest.raises(ValueError, match="pixels"):
        qr.png("https://example.com/" + "x" * 800, 100)
