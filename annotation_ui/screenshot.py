"""Runs the annotation page in a browser without a window: for pictures of it, and for its tests.

Needs Playwright for Python and a Chromium: Debian's package (`apt-get install chromium`) will do.
"""

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.votes.sound_check import pass_sound_check
from prefkit.votes.store import VoteStore
from prefkit.workspace import Workspace

_SERVE = (
    "import sys; from annotation_ui.server import serve; "
    "serve(sys.argv[1], port=int(sys.argv[2]), open_to_all=sys.argv[3] == 'open')"
)
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--autoplay-policy=no-user-gesture-required",
)
_START_SECONDS = 180  # a machine that is busy with a training needs long to import everything
WINDOW = {"width": 1280, "height": 800}


def find_chromium() -> str | None:
    """The path of Debian's or Ubuntu's Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextlib.contextmanager
def running_server(
    workspace_path: str | Path, *, open_to_all: bool = True, port: int | None = None, folder: Path | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Serves a workspace from a process of its own and yields its URL and the process.

    Args:
        workspace_path: a workspace with comparisons.
        open_to_all: see `annotation_ui.server.serve`.
        port: where; None for any that is free.
        folder: the process's working folder, where Streamlit looks for `.streamlit/secrets.toml`; None for ours.

    Raises:
        PrefkitError: the server did not come up; its last words are in the message.
    """
    if port is None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
    command = [sys.executable, "-c", _SERVE, str(workspace_path), str(port), "open" if open_to_all else "invited"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process)
        yield url, process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextlib.contextmanager
def browser_page(**options: Any) -> Iterator[Any]:
    """Yields an empty Playwright page in Chromium, 1280x800 unless `options` say otherwise.

    Raises:
        PrefkitError: there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    chromium = find_chromium()
    if chromium is None:
        raise PrefkitError("there is no Chromium on this machine; install one with 'apt-get install chromium'")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        try:
            yield browser.new_page(**({"viewport": WINDOW} | options))
        finally:
            browser.close()


def screenshot(workspace_path: str | Path, path: str | Path, *, annotator: str = "robin-7") -> None:
    """Writes a PNG of the annotation page with the first comparison of a workspace half answered.

    Nothing is voted, but the comparison stays leased to `annotator` for a while.

    Raises:
        PrefkitError: there is nothing to annotate, or no Chromium.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    store = VoteStore.in_workspace(Workspace.open(workspace_path))
    pass_sound_check(store, annotator, {"played": 3, "heard": 3, "together": True})
    store.close()
    with running_server(workspace_path) as (url, _), browser_page() as page:
        page.goto(f"{url}/?annotator={annotator}")
        page.locator(".pk[data-state=ready][data-voting=open]").wait_for(timeout=120_000)
        for key in (" ", "ArrowRight", "1", "2"):
            page.keyboard.press(key)
        page.locator('fieldset[data-criterion="overall"].active').wait_for()
        page.wait_for_timeout(300)
        page.screenshot(path=path)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    process.kill()
    said = process.communicate()[0].decode(errors="replace").strip() or "it said nothing"
    raise PrefkitError(f"the annotation server did not start: {said.splitlines()[-1]}")


if __name__ == "__main__":
    screenshot(sys.argv[1], sys.argv[2])
