"""As people are asked: sound check first, watch before voting, all by keyboard; and what a lead sees."""

import json

import pytest

from annotation_ui.screenshot import browser_page, find_chromium, running_server
from prefkit.tables import CRITERIA
from prefkit.votes.store import VoteStore
from tests.annotation_ui.browsing import PATIENCE, come_in, keep_picture, shown_on, wait_until_open

pytest.importorskip("playwright", reason="the browser tests need Playwright: pip install 'prefkit[dev]'")
pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="there is no Chromium; get it with 'apt-get install chromium'"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def url(strict_workspace):
    with running_server(strict_workspace.root, open_to_all=False) as (address, _):
        yield address


@pytest.fixture
def page(request):
    with browser_page(**getattr(request, "param", {})) as opened:
        opened.set_default_timeout(PATIENCE)
        crashes = []
        opened.on("pageerror", lambda error: crashes.append(error))
        yield opened
        assert crashes == []


def pass_the_sound_check(page):
    """By keyboard: Enter on the focused button, the number of flashes seen, Y."""
    page.locator("dialog.sound-check[open]").wait_for()
    flashes = page.evaluate("""() => new Promise((done) => {
        let root = null, count = 0;
        for (const each of document.querySelectorAll("*")) root = each.shadowRoot?.querySelector(".pk") ?? root;
        const lamp = root.querySelector(".lamp"), last = root.querySelector("[data-step=count]");
        new MutationObserver((changes) => {
            for (const change of changes) if (change.target.classList.contains("lit")) count++;
        }).observe(lamp, { attributes: true, attributeFilter: ["class"] });
        new MutationObserver(() => { if (!last.hidden) done(count); }).observe(last, { attributes: true });
        root.querySelector("[data-check=play]").click();
    })""")
    keep_picture(page, "sound-check")
    page.keyboard.press(str(flashes))
    page.keyboard.press("y")
    page.locator("dialog.sound-check:not([open])").wait_for(state="attached")


def test_twenty_pairs_by_keyboard_alone(page, url, strict_workspace):
    come_in(page, url, strict_workspace, "keys-1")
    pass_the_sound_check(page)
    keys, choices = "123", ("left", "tie", "right")
    comparison, expected, lefts = None, {}, set()
    for number in range(20):
        page.locator(f".pk[data-state=ready]:not([data-comparison='{comparison}'])").wait_for()
        if number == 0:
            page.keyboard.press("1")  # too early: nothing was watched
            assert "Watch both clips" in page.locator(".status").inner_text()
            keep_picture(page, "watch-first")
        comparison = wait_until_open(page, comparison)
        on = {side: shown_on(page, side) for side in ("left", "right")}
        lefts.add(on["left"])
        for place, criterion in enumerate(CRITERIA):
            answer = (number + place) % 3
            page.keyboard.press(keys[answer])
            expected[comparison, criterion] = (on.get(choices[answer], "tie"), on["left"])
        if number == 3:
            marking = ["[", *["ArrowRight"] * 4, "]", "q", "\\", "e", "ArrowLeft", "e", "9", "x", "z", "n"]
            for key in (" ", *["ArrowLeft"] * 13, *marking):
                page.keyboard.press(key)
            page.keyboard.type("c <b>r</b> 1")
            marked, marked_on = comparison, on
            page.keyboard.press("Escape")
            page.wait_for_timeout(300)
            keep_picture(page, "all-said")
        page.keyboard.press("Enter")
    page.locator(".status[data-kind=saved]").wait_for()
    page.locator(".count", has_text="20 of 21").wait_for()
    store = VoteStore.in_workspace(strict_workspace)
    votes = store.votes()
    votes = votes[votes["annotator"] == "keys-1"]
    found = {(v.comparison_id, v.criterion): (v.choice, v.left) for v in votes.itertuples()}
    assert found == expected and lefts == {"a", "b"}
    row = votes[votes["comparison_id"] == marked].iloc[0]
    ranges = json.loads(row["ranges"])
    assert [one["clip"] for one in ranges] == [marked_on["left"], marked_on["right"]]
    assert all(one["start"] < one["end"] for one in ranges)
    assert (row["confidence"], json.loads(row["flags"]), row["comment"]) == (3, ["broken"], "c <b>r</b> 1")
    assert row["seeks"] >= 5 and (votes["watched_a"] > 0.3).all() and (votes["replays"] >= 1).all()

    wait_until_open(page, comparison)
    for _ in range(3):  # undo of the last votes, one after the other
        page.keyboard.press("u")
        page.locator(".status", has_text="Taken back").wait_for()
        page.wait_for_timeout(500)
    after = store.votes()
    assert (after["annotator"] == "keys-1").sum() == 17 * 3
    store.close()


@pytest.mark.parametrize("page", [{"viewport": {"width": 820, "height": 1180}, "has_touch": True}], indirect=True)
def test_a_tablet_shows_all_of_it(page, url, strict_workspace):
    come_in(page, url, strict_workspace, "tablet-1")
    pass_the_sound_check(page)
    wait_until_open(page)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 820
    page.locator("fieldset label").first.tap()
    keep_picture(page, "tablet")
    for selector in ("figure[data-side=right] .frame", ".save", ".others", ".tools"):
        box = page.locator(selector).bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 820, selector


def test_without_a_link_nobody_votes_and_a_lead_sees_how_it_goes(page, url, strict_workspace):
    page.goto(url)
    page.get_by_text("Annotators are invited here").wait_for()
    keep_picture(page, "invited-only")
    page.goto(f"{url}/prefkit/login")
    keep_picture(page, "sign-in")
    come_in(page, url, strict_workspace, "plain-1")
    page.goto(f"{url}/?lead")
    page.get_by_text("This page is for leads").wait_for()
    come_in(page, url, strict_workspace, "boss", role="lead")
    page.set_viewport_size({"width": 1280, "height": 1100})
    page.goto(f"{url}/?lead")
    page.get_by_text("Leave somebody out").wait_for()
    page.wait_for_timeout(1500)
    keep_picture(page, "lead")
    for tab in ("Disagreements", "Gold", "Access"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(500)
        keep_picture(page, f"lead-{tab.lower()}")
