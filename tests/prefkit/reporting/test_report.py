"""The report: complete in one file, honest at the top, and its clips play in step in a real browser."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from prefkit.errors import PrefkitError
from prefkit.media import write_clip
from prefkit.reporting.report import (
    ClipRow,
    Evaluation,
    ReportData,
    Stage,
    banners,
    headline,
    training_panels,
    write_report,
)

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


def result(metric="mouth", rate=0.7, low=0.6, high=0.8, **columns):
    numbers = dict.fromkeys(("margin", "bound", "p_value", "non_inferior", "reason"))
    row = {"metric": metric, "direction": "higher", "num_conditions": 24, "num_pairs": 48, "num_missing": 0}
    row |= {"base_mean": 1.0, "tuned_mean": 1.4, "difference": 0.4, "difference_low": 0.2, "difference_high": 0.6}
    return row | {"win_rate": rate, "win_rate_low": low, "win_rate_high": high} | numbers | columns


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two rows of a base and a tuned clip, one second each, with sound."""
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    sound = (2000 * rng.standard_normal(16000)).astype(np.int16)
    rows = []
    for row in range(2):
        files = {label: folder / f"{label}{row}.mp4" for label in ("base", "tuned")}
        for file in files.values():
            write_clip(file, rng.integers(0, 256, (25, 32, 32, 3), np.uint8), 25.0, sound)
        rows.append(ClipRow(f"Condition {row}", files))
    return rows


@pytest.fixture
def data(clips):
    band = result("head", None, None, None, direction="band", margin=0.1, bound=-0.05, p_value=0.01, non_inferior=True)
    unscored = result("identity", None, None, None, difference=None, difference_low=None, difference_high=None)
    unscored |= {"base_mean": None, "tuned_mean": None, "num_conditions": 0, "reason": "no value of both models"}
    return ReportData(
        title="Round 1 <b>",
        stages=[Stage("sample", 256, "clips", "64 conditions")],
        funnel=[{"step": "votes", "total": 9, "dropped": {"undo": 2}, "left": 7}],
        evaluations=[Evaluation("Tuned against base", [result(), band, unscored], primary="mouth")],
        training=[{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.6, "eval_implicit_accuracy": 0.6}],
        clips=clips,
        provenance={"Seeds": {"sampling": 0, "config": {"beta": 2000}}},
        num_votes=9,
        num_simulated=9,
        synthetic_portraits=True,
    )


def test_the_page_holds_everything_itself(data, tmp_path):
    summary = write_report(tmp_path / "out" / "report.html", data)
    page = (tmp_path / "out" / "report.html").read_text()
    assert summary["clips_shown"] == 2 and summary["bytes"] == len(page.encode())
    assert page.count("data:video/mp4;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:)', page) and "url(" not in page and "@import" not in page
    for text in ("Round 1 &lt;b&gt;", "All votes", "2 × undo", "no value of both models", "64 conditions", "not shown"):
        assert (text in page) == (text != "not shown"), text
    assert write_report(tmp_path / "again.html", data)["bytes"] == summary["bytes"]


def test_parts_without_data_are_left_out(tmp_path):
    write_report(tmp_path / "report.html", ReportData("Empty"))
    page = (tmp_path / "report.html").read_text()
    assert "<section" not in page and 'role="note"' not in page and "headline" not in page.split("</style>")[1]


def test_banners_say_what_is_not_real(data):
    assert len(banners(data)) == 2 and banners(data)[0].startswith("All votes")
    assert banners(ReportData("x", num_votes=9, num_simulated=4))[0].startswith("4 of 9 votes")
    assert banners(ReportData("x", num_votes=9)) == []


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.6, 0.8, "is better"), (0.4, 0.8, "No difference"), (0.1, 0.3, "is worse"), (None, None, "No difference")],
)
def test_the_headline_claims_no_more_than_the_interval(low, high, words):
    row = result(low=low, high=high, reason=None if low else "an interval needs at least two conditions")
    said = headline(ReportData("x", evaluations=[Evaluation("e", [row], primary="mouth")]))
    assert words in said["words"]
    assert ("two conditions" in said["detail"]) == (low is None)
    assert headline(ReportData("x", evaluations=[Evaluation("e", [row], primary="other")])) is None


def test_training_curves_take_the_keys_of_the_trainer():
    log = [{"step": 10, "rewards/accuracies": 0.5, "grad_norm": 3.0}, {"step": 10, "eval_implicit_accuracy": 0.6}]
    (panel,) = training_panels(log)
    assert (panel["title"], panel["names"]) == ("Pairs ranked right", ["training", "held out"])


def test_missing_clips_are_a_sentence_and_leave_the_old_page(data, clips, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    gone = ClipRow("Condition 2", {"base": clips[0].clips["base"], "tuned": tmp_path / "tuned1.mp4"})
    with pytest.raises(PrefkitError, match="tuned1.mp4, which does not exist"):
        write_report(path, replace(data, clips=[*clips, gone]))
    assert path.read_text() == "old"


def test_clips_beyond_the_limit_are_counted(data, tmp_path, monkeypatch):
    first = sum(file.stat().st_size for file in data.clips[0].clips.values())
    monkeypatch.setattr("prefkit.reporting.report.MAX_CLIP_BYTES", first + 1)
    summary = write_report(tmp_path / "report.html", data)
    assert (summary["clips_shown"], summary["clips_left_out"]) == (1, 1)
    assert "1 more rows of clips" in (tmp_path / "report.html").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine; install it (Debian: apt install chromium)")
def test_clips_play_in_step_with_one_sound_and_without_a_network(data, tmp_path):
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; pip install playwright"
    )
    write_report(tmp_path / "report.html", data)
    problems = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(300_000)  # a busy machine is no failure
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.goto((tmp_path / "report.html").as_uri())
        page.click("#play-all")
        in_step = (
            "r => Math.abs(r[0].currentTime - r[1].currentTime) < 0.1 && r.every(v => v.currentTime > 0.2 && !v.paused)"
        )
        rows = "[...document.querySelectorAll('.row')].map(r => [...r.querySelectorAll('video')])"
        page.wait_for_function(f"{rows}.every({in_step})")
        heard = "[...document.querySelectorAll('video')].map(v => !v.muted)"
        assert page.evaluate(heard) == [True, False, False, False]
        page.evaluate("document.querySelectorAll('video')[2].addEventListener('play', () => window.again = 1)")
        page.wait_for_function("window.again === 1")  # ended, and started again together
        page.click(".row:nth-child(2)")
        assert page.evaluate(heard) == [False, False, True, False]
        page.click("#play-all")
        assert page.evaluate("[...document.querySelectorAll('video')].every(v => v.paused)")
        browser.close()
    assert problems == []
