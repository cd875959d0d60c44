"""`make picture`: docs/report.png, two columns of reports/registered.html as a headless Chromium shows it."""

import base64
import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from support.chromium import CHROMIUM, DRAWN, Tab, chromium

ROOT = Path(__file__).parents[2]
PAGE, PICTURE = ROOT / "reports/registered.html", ROOT / "docs/report.png"
WIDTH, HEIGHT = 900, 1200
"""One column of the picture, in CSS pixels."""
COLUMNS = ("body", "#costs")
"""Where each column begins: CSS selectors."""
COLOURS = 64
LIMIT_BYTES = 200_000


def columns(page: Path) -> list[Image.Image]:
    """The columns of the picture, in the page's light colours."""
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as tab:
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        tab.call("Emulation.setDeviceMetricsOverride", **size)
        tab.call("Emulation.setScrollbarsHidden", hidden=True)
        tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
        tab.open(page)
        tab.until(DRAWN)
        return [_column(tab, selector) for selector in COLUMNS]


def _column(tab: Tab, selector: str) -> Image.Image:
    top = tab.run(f"document.querySelector({selector!r}).getBoundingClientRect().top + scrollY")
    clip = {"x": 0, "y": max(0, top), "width": WIDTH, "height": HEIGHT, "scale": 1}
    png = tab.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
    return Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")


def picture(parts: list[Image.Image]) -> bytes:
    """PNG of the columns side by side, with COLOURS colours: a page is flat and needs no more."""
    whole = Image.new("RGB", (WIDTH * len(parts), HEIGHT))
    for number, part in enumerate(parts):
        whole.paste(part, (number * WIDTH, 0))
    buffer = io.BytesIO()
    whole.quantize(COLOURS).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> int:
    """Writes docs/report.png from reports/registered.html."""
    if CHROMIUM is None or not PAGE.exists():
        print(
            "picture: expected Chromium on the PATH and reports/registered.html; run 'make run' first", file=sys.stderr
        )
        return 2
    content = picture(columns(PAGE))
    if len(content) > LIMIT_BYTES:
        print(f"picture: {len(content)} bytes is too large; expected at most {LIMIT_BYTES}", file=sys.stderr)
        return 1
    PICTURE.write_bytes(content)
    print(f"picture: {PICTURE.relative_to(ROOT)}, {len(content) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
