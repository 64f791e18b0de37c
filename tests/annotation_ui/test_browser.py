"""A real server, a real Chromium, real clips."""

import pytest

from annotation_ui.guidelines import read_guidelines
from annotation_ui.screenshot import browser_page, find_chromium, running_server
from prefkit.tables import CRITERIA
from prefkit.votes.store import VoteStore
from tests.annotation_ui.browsing import ONE_FRAME, PATIENCE, SAMPLE, keep_picture, shown_on

pytest.importorskip("playwright", reason="the browser tests need Playwright: pip install 'prefkit[dev]'")
pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium; get it with 'apt-get install chromium'"),
    pytest.mark.timeout(600),
]

KEY_OF = {"left": "1", "tie": "2", "right": "3", "both_bad": "4"}


@pytest.fixture(scope="module")
def url(workspace):
    with running_server(workspace.root) as (address, _):
        yield address


@pytest.fixture
def page():
    with browser_page() as opened:
        opened.set_default_timeout(PATIENCE)
        crashes = []
        opened.on("pageerror", lambda error: crashes.append(error))
        yield opened
        assert crashes == []


def open_pair(page, url, annotator):
    page.goto(f"{url}/?annotator={annotator}", wait_until="commit")
    return wait_for_pair(page)


def wait_for_pair(page, state="ready", after=None):
    """Waits for a comparison other than `after` and returns its id."""
    other = f":not([data-comparison='{after}'])" if after else ""
    root = page.locator(f".pk[data-state={state}]{other}")
    root.wait_for()
    return root.get_attribute("data-comparison")


def wait_until_saved(page):
    page.locator(".status[data-kind=saved]").wait_for()


def votes_of(workspace, annotator):
    votes = VoteStore.in_workspace(workspace).votes()
    return votes[votes["annotator"] == annotator]


def answer_by_key(page, answers):
    for choice in answers:
        page.keyboard.press(KEY_OF[choice])
    page.keyboard.press("Enter")


def answer_by_button(page, answers):
    for criterion, choice in zip(CRITERIA, answers, strict=True):
        page.locator(f"fieldset[data-criterion={criterion}] label:has([value={choice}])").click()
    page.get_by_role("button", name="Save and next").click()


def test_votes_by_key_and_by_button_are_stored_as_what_was_seen(page, url, workspace):
    asked = ["left right tie", "right left both_bad", "left left left", "right tie right"]
    expected, comparison, sides = {}, open_pair(page, url, "ann-1"), set()
    for number, answers in enumerate(line.split() for line in asked):
        on = {side: shown_on(page, side) for side in ("left", "right")}
        assert {*on.values()} == {"a", "b"}
        sides.add(on["left"])
        for criterion, choice in zip(CRITERIA, answers, strict=True):
            expected[comparison, criterion] = (on.get(choice, choice), on["left"])
        (answer_by_button if number % 2 else answer_by_key)(page, answers)
        comparison = wait_for_pair(page, after=comparison)
        wait_until_saved(page)
        assert page.locator(".status").inner_text() == "Saved."
        page.locator(".count", has_text=f"{number + 1} of 6").wait_for()
        # The page has said that they are saved, so they are in the database now.
        votes = votes_of(workspace, "ann-1")
        found = {(v.comparison_id, v.criterion): (v.choice, v.left) for v in votes.itertuples()}
        assert found == expected
    assert sides == {"a", "b"}, "no swapped pair came up; choose another annotator name"
    assert set(votes["source"]) == {"human"} and set(votes["guidelines_version"]) == {read_guidelines().version}
    assert (votes["seconds"] > 0).all()
    keep_picture(page, "annotate")


def test_a_reload_goes_on_where_it_stopped(page, url):
    first = open_pair(page, url, "ann-2")
    answer_by_key(page, ("left", "left", "left"))
    second = wait_for_pair(page, after=first)
    wait_until_saved(page)
    page.keyboard.press("1")
    page.reload()
    assert wait_for_pair(page) == second
    assert page.locator(".count").inner_text() == "1 of 6"


def test_saved_is_said_only_after_the_server_has_it_and_a_lost_answer_counts_once(page, url, workspace):
    first = open_pair(page, url, "ann-3")
    tries = []

    def flaky(route):
        tries.append(route.request.post_data)
        if len(tries) == 1:
            route.abort()  # never arrives
        elif len(tries) == 2:
            route.fetch()  # arrives, but the answer gets lost
            route.abort()
        else:
            assert page.locator(".status[data-kind=saved]").count() == 0
            route.continue_()

    page.route("**/prefkit/votes", flaky)
    answer_by_key(page, ("right", "right", "right"))
    page.locator(".status[data-kind=waiting]").wait_for()
    keep_picture(page, "no-connection")
    wait_for_pair(page, after=first)
    wait_until_saved(page)
    assert len(tries) == 3 and len(set(tries)) == 1
    assert len(votes_of(workspace, "ann-3")) == len(CRITERIA)


def test_a_ballot_outlives_a_reload_while_the_server_is_away(page, url, workspace):
    first = open_pair(page, url, "ann-4")
    page.route("**/prefkit/votes", lambda route: route.abort())
    answer_by_key(page, ("left", "tie", "right"))
    page.locator(".status[data-kind=waiting]").wait_for()
    assert votes_of(workspace, "ann-4").empty
    page.unroute("**/prefkit/votes")
    page.reload()
    assert wait_for_pair(page) != first
    assert len(votes_of(workspace, "ann-4")) == len(CRITERIA)


def test_skip_with_a_reason_and_undo(page, url, workspace):
    first = open_pair(page, url, "ann-5")
    page.keyboard.press("s")
    page.locator("dialog.skip[open]").wait_for()
    keep_picture(page, "skip")
    page.keyboard.press("2")
    second = wait_for_pair(page, after=first)
    wait_until_saved(page)
    skipped = votes_of(workspace, "ann-5")
    assert set(skipped["choice"]) == {"skip"} and set(skipped["skip_reason"]) == {"I cannot judge it"}
    page.keyboard.press("u")
    assert wait_for_pair(page, after=second) == first
    assert votes_of(workspace, "ann-5").empty
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    wait_for_pair(page, after=first)
    wait_until_saved(page)
    assert set(votes_of(workspace, "ann-5")["choice"]) == {"both_bad"}


def test_a_clip_that_cannot_be_played_can_only_be_skipped_and_then_all_is_done(page, url, workspace):
    comparison = open_pair(page, url, "ann-6")
    for _ in range(4):
        answer_by_key(page, ("left", "left", "left"))
        comparison = wait_for_pair(page, after=comparison)
    answer_by_key(page, ("left", "left", "left"))
    comparison = wait_for_pair(page, state="broken", after=comparison)
    assert page.locator(".broken:visible").inner_text().startswith("This clip cannot be played")
    answer_by_key(page, ("left", "left", "left"))
    keep_picture(page, "broken-clip")
    page.keyboard.press("s")
    page.get_by_role("button", name="A clip does not play").click()
    page.locator(".pk[data-state=finished]").wait_for()
    wait_until_saved(page)
    keep_picture(page, "finished")
    votes = votes_of(workspace, "ann-6").set_index("comparison_id")
    assert set(votes.loc[comparison, "choice"]) == {"skip"} and len(votes) == 18


# Notes at which place in the sound each start happened, and where the picture was then.
NOTE_SOUND = """() => {
  window.soundStarts = [];
  const start = AudioBufferSourceNode.prototype.start;
  AudioBufferSourceNode.prototype.start = function (when, offset) {
    const { context } = this;
    const latency = (context.outputLatency || context.baseLatency) * this.playbackRate.value;
    let root = null;
    for (const each of document.querySelectorAll("*")) root = each.shadowRoot?.querySelector(".pk") ?? root;
    window.soundStarts.push([offset - latency, root.querySelector("figure[data-side=left] video.on").currentTime]);
    return start.call(this, when, offset);
  };
}"""


def test_both_clips_and_the_sound_stay_in_step(page, url):
    open_pair(page, url, "ann-7")
    page.evaluate(NOTE_SOUND)
    videos = [page.locator(f"figure[data-side={side}] video.on").element_handle() for side in ("left", "right")]
    drifts = {}
    ways = {"normal": [], "slow": ["-", "-"], "restarted": ["+", "+", "r"], "sought": [*["ArrowRight"] * 3, " "]}
    for name, keys in (ways | {"other sound": ["a"]}).items():
        for key in keys:
            page.keyboard.press(key)
        # Being out of step would show every time; a busy machine that drops frames does not.
        for _ in range(3):
            samples = page.evaluate(SAMPLE, [*videos, 3500])
            assert len(samples) > 10, "the clips did not play"
            drift = max(abs(left - right) for left, right in samples)
            drifts[name] = min(drift, drifts.get(name, drift))
            if drift < ONE_FRAME:
                break
    assert max(drifts.values()) < ONE_FRAME, drifts
    starts = page.evaluate("window.soundStarts")
    assert starts and all(abs(sound - picture) < ONE_FRAME for sound, picture in starts)


def test_frame_steps_show_the_same_frame_of_both(page, url):
    open_pair(page, url, "ann-8")
    page.keyboard.press(" ")
    page.keyboard.press("ArrowRight")
    videos = [page.locator(f"figure[data-side={side}] video.on").element_handle() for side in ("left", "right")]
    before = [page.locator(".time").inner_text(), *(video.evaluate("video => video.currentTime") for video in videos)]
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(500)
    after = [page.locator(".time").inner_text(), *(video.evaluate("video => video.currentTime") for video in videos)]
    assert before[1] == before[2] and after[1] == after[2]
    assert int(after[0].split(" /")[0]) == int(before[0].split(" /")[0]) - 1


def test_it_fits_the_window_says_what_is_shown_and_can_be_used_without_a_mouse(page, url):
    open_pair(page, url, "ann-9")
    size = page.evaluate("() => { const e = document.scrollingElement; return [e.scrollWidth, e.scrollHeight] }")
    assert size[0] <= 1280 and size[1] <= 800
    for selector in ("figure[data-side=right] video.on", ".save", ".tools", ".others", "fieldset:last-child"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1280 and box["y"] + box["height"] <= 800, selector
    assert page.locator("figure[data-side=left] video.on").bounding_box()["width"] >= 420
    assert page.get_by_text("synthetic portraits").is_visible()
    page.locator("input[value=left]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("fieldset").first.locator("input[value=tie]").is_checked()
    page.keyboard.press("?")
    keep_picture(page, "keys")
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    assert page.get_by_text("Not part of the question").is_visible()
    keep_picture(page, "guidelines")


def test_the_start_page_asks_for_a_name_and_refuses_markup(page, url):
    page.goto(url)
    page.get_by_role("textbox").fill("<b>ann</b>")
    page.get_by_role("button", name="Start").click()
    page.get_by_text("is no annotator name").wait_for()
    keep_picture(page, "start")
    page.get_by_role("textbox").fill("ann-10")
    page.get_by_role("button", name="Start").click()
    wait_for_pair(page)
    assert page.url.endswith("?annotator=ann-10") and page.locator(".who").inner_text() == "ann-10"
