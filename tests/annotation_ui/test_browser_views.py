"""What one pair of real clips shows: a download that stalls, views, odd formats, a question of the project's own."""

import contextlib
import re
import urllib.parse

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from annotation_ui.screenshot import browser_page, find_chromium, running_server
from prefkit.cli import app
from prefkit.media import write_clip
from prefkit.tables import CANDIDATES, COMPARISONS, CONDITIONS
from prefkit.votes.accounts import by_link, list_accounts
from prefkit.votes.sides import left_side
from prefkit.votes.store import VoteStore
from prefkit.votes.verdicts import read_verdicts
from prefkit.workspace import Workspace
from tests.annotation_ui.browsing import (
    ONE_FRAME,
    PATIENCE,
    SAMPLE,
    both_videos,
    come_in,
    keep_picture,
    shown_on,
    wait_until_open,
)
from tests.annotation_ui.stalling_proxy import StallingProxy

pytest.importorskip("playwright", reason="the browser tests need Playwright: pip install 'prefkit[dev]'")
pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium; get it with 'apt-get install chromium'"),
    pytest.mark.timeout(900),
]

FPS, FRAMES = 25, 100
SETTINGS = """sound_check = false
completion_url = "https://crowd.example/done?who={annotator}"

[[criteria]]
id = "overall"
label = "Overall"
question = "Which clip would you rather show?"

[[criteria]]
id = "teeth"
label = "Teeth & <b>tongue</b>"
question = "Whose mouth looks right inside?"
"""

# What sounds now, in `sounding`: the pitch of each running buffer, from its zero crossings.
HEAR = """() => {
  const running = new Map(), { start, stop } = AudioBufferSourceNode.prototype;
  AudioBufferSourceNode.prototype.start = function (...when) {
    const samples = this.buffer.getChannelData(0);
    let crossings = 0;
    for (let n = 1; n < samples.length; n++) crossings += samples[n - 1] < 0 && samples[n] >= 0;
    running.set(this, crossings);
    this.addEventListener("ended", () => running.delete(this));
    return start.apply(this, when);
  };
  AudioBufferSourceNode.prototype.stop = function (...when) { running.delete(this); return stop.apply(this, when); };
  window.sounding = () => [...running.values()];
}"""


def noise(seed, side=192):
    """Frames that compress badly, with a bar that moves."""
    rng = np.random.default_rng(seed)
    for index in range(FRAMES):
        frame = rng.integers(0, 256, (side, side, 3), np.uint8)
        frame[60:130, index : index + 40] = (230, 200, 160)
        yield frame


def tone(hertz):
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(16_000 * FRAMES // FPS) / 16_000)).astype(np.int16)


def skeleton():
    frames = np.zeros((FRAMES, 192, 192, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[40:150, index + 20 : index + 24] = (90, 255, 90)
    return frames


def encode(path, codec, pixels, options):
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = pixels
        for value in range(25):
            picture = np.full((64, 64, 3), (8 * value, 90, 120), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """q0: two clips of megabytes with a skeleton; q1: HEVC of 10 bits, and H.264 in Matroska; g0: a gold question."""
    made = Workspace.create(tmp_path_factory.mktemp("views") / "workspace")
    (made.root / "clips").mkdir(exist_ok=True)
    (made.root / "annotation.toml").write_text(SETTINGS)
    write_clip(made.path("clips/skeleton.mp4"), skeleton(), FPS)
    for number, side in enumerate("ab"):
        write_clip(made.path(f"clips/big{side}.mp4"), noise(number), FPS, tone(220 if side == "a" else 330))
        write_clip(made.path(f"clips/gold{side}.mp4"), skeleton()[: 25 + number], FPS)
    encode(made.path("clips/odda.mp4"), "libx265", "yuv420p10le", {"x265-params": "log-level=none"})
    encode(made.path("clips/oddb.mkv"), "libx264", "yuv420p", {})
    made.append(CONDITIONS, [{"condition_id": "c0", "skeleton": "clips/skeleton.mp4"}, {"condition_id": "c1"}])
    suffix = {"odda": "mp4", "oddb": "mkv"}
    made.append(
        CANDIDATES,
        [{"candidate_id": name, "condition_id": "c0" if name.startswith("big") else "c1", "fps": FPS,
          "clip": f"clips/{name}.{suffix.get(name, 'mp4')}"} for name in ("biga", "bigb", "odda", "oddb", "golda",
                                                                          "goldb")],
    )  # fmt: skip
    rows = {"q0": ("big", "train"), "q1": ("odd", "train"), "g0": ("gold", "gold")}
    made.append(
        COMPARISONS,
        [{"comparison_id": which, "condition_id": "c0" if which == "q0" else "c1", "candidate_a": f"{clips}a",
          "candidate_b": f"{clips}b", "purpose": purpose, "target_votes": 50}
         for which, (clips, purpose) in rows.items()],
    )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def url(workspace):
    with running_server(workspace.root, open_to_all=False) as (address, _):
        yield address


@pytest.fixture
def page():
    with browser_page() as opened:
        opened.set_default_timeout(PATIENCE)
        opened.add_init_script(f"({HEAR})()")
        crashes = []
        opened.on("pageerror", lambda error: crashes.append(error))
        yield opened
        assert crashes == []


def votes_in(workspace, annotator):
    store = VoteStore.in_workspace(workspace)
    votes = store.votes()
    store.close()
    return votes[votes["annotator"] == annotator]


# Where both are, whether the one that has data is paused, how many sounds there are.
STATE = """([left, right]) =>
    [left.currentTime, right.currentTime, left.paused || right.paused, window.sounding().length]"""


@contextlib.contextmanager
def stalled(page, url, workspace, side):
    """The page with a pair that is ready, of which the clip on this side will not come whole; the proxy, the annotator.

    A browser on a busy machine may not have found that the clip will play through before its rest fails to
    come, and waits: then anew.
    """
    from playwright.sync_api import TimeoutError as TooLate

    for attempt in range(4):
        name = f"stall-{side}-{attempt}"
        on_the_left = left_side(name, "q0")
        slow = f"big{on_the_left if side == 'left' else {'a': 'b', 'b': 'a'}[on_the_left]}"
        size = workspace.path(f"clips/{slow}.mp4").stat().st_size
        assert size > 2_000_000
        port = urllib.parse.urlsplit(url).port
        with StallingProxy(port, f"/prefkit/clips/{slow}?", size * 4 // 10) as proxy:
            come_in(page, proxy.url, workspace, name)
            try:
                page.locator(".pk[data-state=ready]").wait_for(timeout=30_000)
            except TooLate:
                continue
            yield proxy, name
            return
    raise AssertionError("the pair was never ready")


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_download_that_stalls_pauses_both_and_the_sound_until_it_goes_on(page, url, workspace, side):
    with stalled(page, url, workspace, side) as (proxy, name):
        page.locator(".pk[data-buffering=true]").wait_for()
        assert proxy.holding.is_set()
        videos = both_videos(page)
        held = page.evaluate(STATE, videos)
        for key in ("1", "1", "Enter"):
            page.keyboard.press(key)
        assert "Watch both clips" in page.locator(".status").inner_text()
        page.wait_for_timeout(1000)
        assert page.evaluate(STATE, videos) == held
        assert all(0.2 < at < 0.9 * FRAMES / FPS for at in held[:2]) and held[2:] == [True, 0], held
        assert page.locator("fieldset input:checked").count() == 0 and votes_in(workspace, name).empty
        assert page.locator(".pk").get_attribute("data-voting") == "closed"
        if side == "right":
            keep_picture(page, "stalled-download")
        for key in (" ", " "):  # who pauses and plays meanwhile gets no further
            page.keyboard.press(key)
            page.wait_for_timeout(500)
        now = page.evaluate(STATE, videos)
        assert abs(now[0] - held[0]) < 0.5 and abs(now[1] - held[1]) < 0.5 and now[2:] == [True, 0], (held, now)
        assert page.locator(".pk").get_attribute("data-buffering") == "true"
        proxy.release()
        page.locator(".pk[data-buffering=false]").wait_for()
        drifts = []
        for _ in range(4):  # being out of step would show every time; a busy machine that drops frames does not
            samples = page.evaluate(SAMPLE, [*videos, 2000])
            assert samples, "the clips did not go on"
            drifts.append(max(abs(one - other) for one, other in samples))
            if drifts[-1] < ONE_FRAME:
                break
        assert drifts[-1] < ONE_FRAME, drifts
        page.wait_for_function("window.sounding().length > 0")
        wait_until_open(page)


def test_views_and_sound(page, url, workspace):
    """Skeleton, sound of the focused clip, full screen, reduced motion; all on one pair."""
    come_in(page, url, workspace, "views-1")
    assert wait_until_open(page) == "q0"
    videos = both_videos(page)
    pitch = {"a": 220 * FRAMES // FPS, "b": 330 * FRAMES // FPS}
    frames = {side: page.locator(f"figure[data-side={side}] .frame") for side in ("left", "right")}
    press = page.keyboard.press
    ways = (("right", frames["right"].focus), ("left", frames["left"].hover), ("right", lambda: press("a")))
    for side, turn_to in ways:
        turn_to()
        wanted = pitch[shown_on(page, side)]
        page.wait_for_function("wanted => window.sounding().some((pitch) => Math.abs(pitch - wanted) < 20)", arg=wanted)
        assert page.evaluate("window.sounding().length") == 1
        assert page.locator(f"[data-act=sound-{side}]").get_attribute("aria-pressed") == "true"

    page.keyboard.press("k")
    overlays = page.locator("video.skeleton")
    assert overlays.count() == 2
    page.wait_for_function("(videos) => videos.every((video) => video.readyState >= 2)", arg=overlays.element_handles())
    page.wait_for_timeout(1000)
    slips = sorted(page.evaluate(SLIPS, [videos[0], *overlays.element_handles(), 3000]))
    assert len(slips) > 10 and slips[len(slips) // 2] < 1.1 * ONE_FRAME, slips  # a busy machine drops frames
    clocks = page.evaluate(SAMPLE, [videos[0], overlays.first.element_handle(), 3000])
    assert clocks and sorted(abs(one - other) for one, other in clocks)[len(clocks) // 2] < ONE_FRAME, clocks
    page.keyboard.press(" ")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowRight"):
        page.keyboard.press(key)
        page.wait_for_timeout(400)
        at = page.evaluate("(videos) => videos.map((video) => video.currentTime)",
                           [*videos, *overlays.element_handles()])  # fmt: skip
        assert max(at) - min(at) < ONE_FRAME / 2, at
    keep_picture(page, "skeleton")
    page.keyboard.press("k")
    assert overlays.count() == 0

    root = page.locator(".pk")
    page.keyboard.press("f")
    page.locator(".pk:fullscreen").wait_for()
    page.keyboard.press("?")
    page.locator("dialog.keys[open]").wait_for()
    assert page.get_by_text("full screen", exact=True).is_visible()
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    if page.locator(".pk:fullscreen").count():  # browsers may take Escape for both
        keep_picture(page, "full-screen")
        page.keyboard.press("f")
    page.locator(".pk:not(:fullscreen)").wait_for()

    assert root.evaluate(MOVING) > 0
    page.emulate_media(reduced_motion="reduce")
    assert root.evaluate(MOVING) == 0


# For a while: how far the skeletons' pictures are from the clip's, in seconds.
SLIPS = """async ([clip, one, other, milliseconds]) => {
  const shown = new Map(), slips = [], start = performance.now();
  const note = (video) =>
    video.requestVideoFrameCallback((_, { mediaTime }) => { shown.set(video, mediaTime); note(video); });
  const slip = (video) => Math.abs(shown.get(video) - shown.get(clip));
  [clip, one, other].forEach(note);
  while (performance.now() - start < milliseconds) {
    await new Promise((next) => requestAnimationFrame(next));
    if (shown.size === 3 && !clip.paused) slips.push(Math.max(slip(one), slip(other)));
  }
  return slips;
}"""

# How many parts of the page move by themselves.
MOVING = """(root) => [root, ...root.querySelectorAll("*")].flatMap((element) =>
    [null, "::before", "::after"].map((part) => getComputedStyle(element, part))).filter((style) =>
    style.animationName !== "none" || style.transitionDuration.split(", ").some((time) => time !== "0s")).length"""


def test_odd_formats_play_a_question_of_our_own_is_asked_and_the_way_to_be_paid_is_shown(page, url, workspace):
    originals = {path: path.read_bytes() for path in (workspace.root / "clips").iterdir()}
    come_in(page, url, workspace, "zoë.1")
    wait_until_open(page)
    assert page.locator("fieldset").count() == 2
    page.get_by_text("Teeth & <b>tongue</b>", exact=True).wait_for()
    page.get_by_text("Whose mouth looks right inside?").wait_for()
    for key in ("1", "3", "Enter"):
        page.keyboard.press(key)
    assert wait_until_open(page, after="q0") == "q1"
    sizes = page.evaluate("(videos) => videos.map((video) => [video.videoWidth, video.duration])", both_videos(page))
    assert [width for width, _ in sizes] == [64, 64] and all(abs(seconds - 1) < 0.05 for _, seconds in sizes)
    for name in ("odda", "oddb"):
        with av.open(str(workspace.root / "proxies" / f"{name}.mp4")) as copy:
            stream = copy.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.frames) == ("h264", "yuv420p", 25)
    assert {path: path.read_bytes() for path in (workspace.root / "clips").iterdir()} == originals
    keep_picture(page, "own-question")
    for key in ("2", "4", "Enter"):
        page.keyboard.press(key)
    page.locator(".pk[data-state=finished]").wait_for()
    page.locator(".status[data-kind=saved]").wait_for(state="attached")
    link = page.get_by_role("link", name="Finish and be paid")
    assert link.get_attribute("href") == "https://crowd.example/done?who=zo%C3%AB.1"
    keep_picture(page, "completion")
    votes = votes_in(workspace, "zoë.1")
    on = left_side("zoë.1", "q0")
    found = {(vote.comparison_id, vote.criterion): vote.choice for vote in votes.itertuples()}
    assert found == {("q0", "overall"): on, ("q0", "teeth"): {"a": "b", "b": "a"}[on],
                     ("q1", "overall"): "tie", ("q1", "teeth"): "both_bad"}  # fmt: skip
    shown = CliRunner().invoke(app, ["votes", "stats", str(workspace.root)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0 and "teeth: alpha" in shown.output and "zoë.1" in shown.output, shown.output


def choose(page, label, option):
    box = page.get_by_role("combobox", name=label)
    box.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)  # its list closes again where the page still moves
    box.click()
    page.get_by_role("option", name=option, exact=True).click()


def test_a_lead_decides_by_the_buttons_of_the_page(page, url, workspace):
    store = VoteStore.in_workspace(workspace)
    store.record(
        {"vote_id": f"{who}-{criterion}", "comparison_id": "q1", "annotator": who, "criterion": criterion,
         "choice": choice, "left": "a", "source": "human", "seconds": 4.0}
        for who, choice in (("lea-1", "a"), ("lea-2", "b")) for criterion in ("overall", "teeth")
    )  # fmt: skip
    page.set_viewport_size({"width": 1280, "height": 1100})
    come_in(page, url, workspace, "boss", role="lead")
    page.goto(f"{url}/?lead")
    choose(page, "Annotator", "lea-2")
    page.get_by_label("Reason, for the record").fill("<b>clicks blindly</b>")
    page.get_by_role("button", name="Exclude").click()
    page.get_by_text("lea-2: <b>clicks blindly</b> (boss,").wait_for()
    keep_picture(page, "lead-excluded")
    assert "lea-2" not in set(store.votes()["annotator"])
    page.get_by_role("button", name="Readmit").click()
    page.get_by_text("Nobody.").wait_for()
    assert "lea-2" in set(store.votes()["annotator"])
    (kept,) = store.exclusions().to_dict("records")
    assert kept["decided_by"] == "boss" and kept["lifted_at"] is not None

    page.get_by_role("tab", name="Disagreements").click()
    choose(page, "Settle", "q1")
    group = page.get_by_role("radiogroup", name="teeth")
    group.get_by_text("a", exact=True).click()
    page.get_by_label("Why").fill("sharper")
    keep_picture(page, "lead-decide")
    page.get_by_role("button", name="Decide").click()
    page.get_by_role("radiogroup", name="teeth").wait_for(state="detached")
    (verdict,) = read_verdicts(store, "adjudication").to_dict("records")
    assert [verdict[n] for n in ("comparison_id", "criterion", "choice", "decided_by", "note")] == [
        "q1", "teeth", "a", "boss", "sharper"]  # fmt: skip

    page.get_by_role("tab", name="Gold").click()
    choose(page, "Give the right answer", "g0")
    page.get_by_role("radiogroup", name="overall").get_by_text("b", exact=True).click()
    page.get_by_role("button", name="Decide").click()
    page.get_by_text("1 gold questions, 1 with an answer").wait_for()
    assert read_verdicts(store, "gold")["choice"].tolist() == ["b"]

    page.get_by_role("tab", name="Access").click()
    page.get_by_label("Pseudonym (empty: a random one)").fill("new-1")
    page.get_by_role("button", name="Make a personal link").click()
    page.get_by_text("new-1's link, shown this once:").wait_for()
    shown = page.locator("code", has_text="/prefkit/enter/").inner_text()
    keep_picture(page, "lead-invited")
    secret = re.fullmatch(re.escape(url) + "/prefkit/enter/(.+)", shown.strip())[1]
    assert by_link(store, secret).annotator == "new-1"
    with page.context.browser.new_context() as other:
        guest = other.new_page()
        guest.goto(shown.strip())
        guest.locator(".pk[data-state=ready]").wait_for(timeout=PATIENCE)
        assert guest.locator(".who").inner_text() == "new-1"
    choose(page, "Revoke access of", "new-1")
    page.get_by_role("button", name="Revoke").click()
    page.wait_for_function(GONE, arg="Revoke")
    revoked = list_accounts(store).set_index("annotator")["revoked_at"]
    assert revoked.notna()["new-1"] and not revoked.notna()["boss"] and by_link(store, secret) is None
    store.close()


# Until no button of that name is to be seen: Streamlit has run the script again.
GONE = """(name) => ![...document.querySelectorAll("button")].some((button) =>
    button.innerText.trim() === name && button.checkVisibility())"""
