"""What the tests do in a browser: come in, pass the sound check, wait, take pictures."""

from pathlib import Path

from prefkit.votes.accounts import invite
from prefkit.votes.store import VoteStore

SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
PATIENCE = 120_000  # milliseconds; machines that run tests can be slow
ONE_FRAME = 0.040  # seconds, at 25 fps

# Samples the clocks of two videos for a while, whenever both play.
SAMPLE = """async ([left, right, milliseconds]) => {
  const samples = [], start = performance.now();
  while (performance.now() - start < milliseconds) {
    await new Promise((next) => setTimeout(next, 10));
    const on = [left, right].every((video) => !video.paused && !video.ended && !video.seeking);
    if (on) samples.push([left.currentTime, right.currentTime]);
  }
  return samples;
}"""


def keep_picture(page, name):
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


def come_in(page, url, workspace, name, **more):
    """By a new personal link."""
    store = VoteStore.in_workspace(workspace)
    _, link = invite(store, name, **more)
    store.close()
    page.goto(f"{url}/prefkit/enter/{link}")
    assert link not in page.url


def wait_until_open(page, after=None):
    """Waits until a comparison other than `after` takes answers, and returns its id."""
    other = f":not([data-comparison='{after}'])" if after else ""
    root = page.locator(f".pk[data-state=ready][data-voting=open]{other}")
    root.wait_for()
    return root.get_attribute("data-comparison")


def both_videos(page):
    return [page.locator(f"figure[data-side={side}] video.on").element_handle() for side in ("left", "right")]


def shown_on(page, side):
    """a or b, read from what the browser plays, not from what the server says."""
    shown = page.locator(f"figure[data-side={side}] video.on").evaluate("video => video.currentSrc")
    return shown.partition("?")[0][-1]
