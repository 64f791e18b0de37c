"""Takes the picture of a report that the README shows: python docs/screenshot_report.py REPORT PNG."""

import sys
from pathlib import Path

from annotation_ui.screenshot import browser_page


def main(report: str, picture: str) -> None:
    """Opens the report from disk and photographs its first screens."""
    with browser_page(viewport={"width": 1200, "height": 1500}) as page:
        page.goto(Path(report).resolve().as_uri())
        page.wait_for_timeout(1500)
        page.screenshot(path=picture)


if __name__ == "__main__":
    main(*sys.argv[1:])
