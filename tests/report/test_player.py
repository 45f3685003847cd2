"""The page of a recording: what it holds, and in a real headless Chromium how it plays."""

import io
import json
import re
import time
import urllib.parse
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from browser import Browser, find_browser
from contentctr.report.player import contents as module
from contentctr.report.player.contents import (
    Chapter,
    Contents,
    Reason,
    VideoLink,
    one_line,
    thin,
    thin_curve,
    utterances,
)
from contentctr.report.player.page import json_for_script, player_html
from contentctr.rooms.room import COMMENTS_SCHEMA, SPEECH_SCHEMA
from videos import make_video

needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
EVIL = "</script><img src='https://evil.example/x' onerror='window.broken=1'>\u2028{{ 7 * 7 }}"


def comments(rows):
    return pl.DataFrame(rows, schema=COMMENTS_SCHEMA, orient="row").sort("t")


def speech(rows):
    return pl.DataFrame(rows, schema=SPEECH_SCHEMA, orient="row")


def page_of(href="", **changes):
    """Contents of a minute whose second half is the better one."""
    score = [0.1] * 5 + [0.3, 0.9, 0.2, 0.1, 0.8, 0.1, None]
    starts = np.arange(12) * 5.0
    curve = pl.DataFrame(
        {"start_s": starts, "end_s": starts + 5, "score": score, "part_chat": [0.5] * 12}
    )
    picture = io.BytesIO()
    Image.new("RGB", (32, 18), "red").save(picture, "JPEG")
    chapters = [
        Chapter(
            rank=1,
            start_s=25.0,
            end_s=35.0,
            peak_s=32.0,
            score=0.9,
            reasons=[Reason(part="chat", text=EVIL, score=0.5)],
            clip="clips/01.mp4",
            clip_start_s=20.0,
            picture=picture.getvalue(),
        ),
        Chapter(rank=2, start_s=45.0, end_s=50.0, peak_s=47.0, score=0.8),
    ]
    link = VideoLink(href=href, name="v.mp4", format="MP4 (H.264)", playable=True)
    settings = {
        "title": EVIL,
        "facts": ["1 min", EVIL],
        "label": "by a rule, not a trained model",
        "warnings": [EVIL],
        "duration_s": 60.0,
        "score_name": "score",
        "percent": False,
        "curve": curve,
        "chapters": chapters,
        "comments": comments([(t + 0.5, f"u{t}", f"word {t}") for t in range(60)]),
        "speech": speech([(31.0, 33.0, "what a goal")]),
        "video": link if href else None,
    }
    return Contents(**{**settings, **changes})


def data_of(html):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    return json.loads(found[1])


# What it holds


def test_what_users_wrote_is_shown_and_never_run():
    html = player_html(page_of(comments=comments([(1.0, EVIL, EVIL)])))
    assert html.count("</script>") == 1 + 5  # the data and the page's own scripts
    assert (
        "<img src='https" not in html and "\u2028" not in html and "49" not in html.split("id=")[0]
    )
    found = data_of(html)
    shown = EVIL.replace("\u2028", " ")
    assert found["chat"][0][2] == shown and found["highlights"][0]["reasons"][0]["text"] == shown
    assert json_for_script("</a>&\u2029") == '"\\u003c/a\\u003e\\u0026\\u2029"'


def test_nothing_of_a_text_is_hidden():
    assert one_line("a\tb\n c ") == "a b c"
    assert one_line("\u202eabc\u202c") == r"\u202eabc\u202c"
    assert one_line("bell\x07 esc\x1b[0m") == r"bell\x07 esc\x1b[0m"
    assert one_line("\u200bx\ufeff\U000e0041") == r"\u200bx\ufeff\U000e0041"
    assert (
        one_line("👨\u200d👩\u200d👧 ok") == "👨\u200d👩\u200d👧 ok"
    )  # a family needs its joiners
    one_line("lone \ud800").encode()  # can be written
    assert len(one_line("字" * 10_000)) == module.MAX_TEXT and one_line("字" * 300).endswith("…")
    assert len(one_line("\x1b" * 1000)) == module.MAX_TEXT


def test_a_long_chat_is_thinned_and_the_page_says_so():
    """A million lines: those around the highlights first, then all over the recording."""
    n = 1_000_000
    table = pl.DataFrame(
        {
            "t": np.linspace(0, 21600, n, endpoint=False),
            "user_id": ["u"] * n,
            "text": ["字" * 50] * n,
        }
    )
    kept = thin(table, "t", [(9000.0, 9030.0)])["t"].to_numpy()
    assert len(kept) == module.MAX_LINES and (np.diff(kept) > 0).all()
    near = (kept >= 9000 - module.AROUND_S) & (kept < 9030 + module.AROUND_S)
    assert near.sum() == round(0.7 * module.MAX_LINES)
    assert kept[0] == 0 and kept[-1] > 21599 and np.diff(kept).max() < 25
    assert thin(table.head(10), "t", []).height == 10
    html = player_html(page_of(comments=table, duration_s=21600.0))
    assert "5,000 of 1,000,000 comments are shown" in html and len(html.encode()) < 2_000_000
    few = thin(table, "t", [(10.0, 11.0)])  # where the rest is short of lines, more are near
    assert few.height == module.MAX_LINES


def test_words_become_lines_and_utterances_stay():
    words = [(1.0, 1.0, "what"), (1.4, 1.4, "a"), (1.9, 1.9, "goal"), (4.0, 4.0, "yes")]
    assert utterances(speech(words)).rows() == [(1.0, 1.9, "what a goal"), (4.0, 4.0, "yes")]
    whole = [(1.0, 2.0, "hello there"), (2.0, 3.0, "and welcome")]
    assert utterances(speech(whole)).rows() == whole


def test_a_long_curve_keeps_its_peaks():
    n = 3 * module.MAX_POINTS + 1
    scores = np.zeros(n)
    scores[7777] = 1.0
    starts = np.arange(n, dtype=np.float64)
    found = thin_curve(pl.DataFrame({"start_s": starts, "end_s": starts + 1, "score": scores}))
    assert found.height <= module.MAX_POINTS and found["score"].max() == 1.0
    assert (found["start_s"][0], found["end_s"][-1]) == (0.0, float(n))
    at = found["score"].arg_max()
    assert found["start_s"][at] <= 7777 < found["end_s"][at]


# How it plays


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(shared_browser):
    """A clean page, that must not have complained nor asked any host in the end."""
    shared_browser.events.clear()
    shared_browser.size(1280, 800)
    shared_browser.media()
    yield shared_browser
    assert shared_browser.told("Runtime.exceptionThrown") == []
    calls = shared_browser.told("Runtime.consoleAPICalled")
    assert [c for c in calls if c["type"] in ("error", "warning")] == []
    assert [e["entry"] for e in shared_browser.told("Log.entryAdded")] == []
    asked = [e["request"]["url"] for e in shared_browser.told("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert not shared_browser.run("window.broken === 1")
    shared_browser.call("Page.navigate", url="about:blank")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recording of a minute in a folder whose name must be escaped, and one for pages."""
    root = tmp_path_factory.mktemp("desk")
    (root / "rec #1 100%").mkdir()
    make_video(root / "rec #1 100%" / "20:00 live?.mp4", seconds=60, audio=True)
    (root / "out").mkdir()
    return root


def show(browser, folder, **changes):
    href = "../" + urllib.parse.quote("rec #1 100%/20:00 live?.mp4")
    path = folder / "out" / "index.html"
    path.write_text(player_html(page_of(href, **changes)), encoding="utf-8")
    browser.open(path.as_uri())
    browser.until("video().readyState >= 1".replace("video()", "document.querySelector('video')"))


NOW = "document.querySelector('video').currentTime"
PAUSED = "document.querySelector('video').paused"


def curve_point(browser, seconds):
    """Where a time is on the curve, in pixels of the window."""
    return browser.run(
        "(() => {const b = document.querySelector('#curve svg').getBoundingClientRect();"
        f"return [b.x + 42 + (b.width - 52) * {seconds} / 60, b.y + 80]}})()"
    )


def mouse(browser, kind, x, y):
    buttons = 0 if kind == "mouseReleased" else 1
    browser.call(
        "Input.dispatchMouseEvent",
        type=kind,
        x=x,
        y=y,
        button="left",
        buttons=buttons,
        clickCount=1,
    )


@needs_browser
def test_a_click_or_a_drag_on_the_curve_moves_the_video(browser, folder):
    show(browser, folder)
    x, y = curve_point(browser, 45)
    mouse(browser, "mousePressed", x, y)
    browser.until(f"Math.abs({NOW} - 45) < 0.3")
    assert browser.run(PAUSED)
    for at in (40, 30, 20):
        mouse(browser, "mouseMoved", *curve_point(browser, at))
    mouse(browser, "mouseReleased", *curve_point(browser, 20))
    browser.until(f"Math.abs({NOW} - 20) < 0.3")
    mouse(browser, "mouseMoved", *curve_point(browser, 50))
    assert browser.run(f"Math.abs({NOW} - 20) < 0.3")  # the button is up
    slider = "document.querySelector('#curve')"
    assert browser.run(f"{slider}.ariaValueNow") == "20"
    assert browser.run(f"{slider}.getAttribute('aria-valuetext')") == "0:20, score 0.10"
    browser.until("document.querySelector('#now').textContent === '0:20'")


@needs_browser
def test_a_highlight_plays_and_the_chat_goes_along(browser, folder):
    show(browser, folder)
    rows = "[...document.querySelectorAll('#highlights > li')]"
    assert (
        browser.run(f"{rows}.map((row) => row.querySelector('.rank').textContent).join()") == "1,2"
    )
    assert EVIL.split("\u2028")[0] in browser.run(f"{rows}[0].innerText")
    assert browser.run(f"{rows}[0].querySelector('.clip').getAttribute('href')") == "clips/01.mp4"
    browser.click("#highlights .go")
    browser.until(f"!{PAUSED} && {NOW} > 25.2 && {NOW} < 35")
    assert (
        browser.run(f"{rows}.map((row) => row.classList.contains('current')).join()")
        == "true,false"
    )
    assert browser.run(f"{rows}[0].querySelector('.go').ariaCurrent") == "true"
    current = "document.querySelector('#lines .current')"
    browser.until(f"/word 2[5-9]/.test({current}?.innerText)")
    browser.until(
        f"(() => {{const a = {current}.getBoundingClientRect();"
        "const b = document.querySelector('#lines').getBoundingClientRect();"
        "return a.top >= b.top && a.bottom <= b.bottom})()"
    )
    head = browser.run("document.querySelector('#curve .playhead').getAttribute('transform')")
    x, _ = curve_point(browser, 26)
    left = browser.run("document.querySelector('#curve svg').getBoundingClientRect().x")
    assert abs(float(re.search(r"\(([\d.]+)", head)[1]) - (x - left)) < 60


@needs_browser
def test_keys(browser, folder):
    show(browser, folder)
    browser.press("n", 78, "n")
    browser.until(f"!{PAUSED} && {NOW} >= 25")
    browser.press("k", 75, "k")
    browser.until(PAUSED)
    browser.press("n", 78, "n")
    browser.until(f"{NOW} >= 45 && !{PAUSED}")
    browser.press(" ", 32, " ")
    browser.until(PAUSED)
    at = browser.run(NOW)
    browser.press("ArrowLeft", 37)
    browser.until(f"Math.abs({NOW} - {at} + 5) < 0.3")
    browser.press("2", 50, "2")
    browser.until(f"{NOW} >= 45 && {NOW} < 47")
    browser.press("p", 80, "p")
    browser.until(f"{NOW} >= 25 && {NOW} < 30")
    browser.press("?", 191, "?")
    browser.until("document.querySelector('#keys').open")
    browser.press("n", 78, "n")  # belongs to the dialog now
    assert browser.run(f"{NOW} < 40")
    browser.run("document.querySelector('#keys').close()")
    browser.run("document.querySelector('#curve').focus()")
    browser.press("End", 35)
    browser.until(f"{NOW} > 59")
    browser.press("/", 191, "/")
    for letter in "goal n":
        browser.press(letter, 0, letter)
    assert browser.run("document.querySelector('#find').value") == "goal n"
    assert browser.run("document.querySelector('#no-lines').hidden") is False
    browser.press("Backspace", 8)
    browser.press("Backspace", 8)
    browser.until("document.querySelectorAll('#lines li.speech').length === 1")


@needs_browser
def test_the_highlights_one_after_the_other(browser, folder):
    show(browser, folder)
    browser.run("document.querySelector('video').playbackRate = 4")
    browser.click("#tour")
    browser.until(f"{NOW} > 25 && {NOW} < 35.5")
    browser.until(f"{NOW} >= 45 && {NOW} < 51")
    browser.until(f"{PAUSED} && document.querySelector('#tour').ariaPressed === 'false'")
    assert browser.run(f"{NOW} < 52")


@needs_browser
def test_a_long_chat_is_never_all_in_the_document(browser, folder):
    many = comments([(i * 0.012, f"u{i}", f"line {i}") for i in range(5000)])
    show(browser, folder, comments=many)
    count = "document.querySelectorAll('#lines li').length"
    assert browser.run(count) <= 240
    browser.press("ArrowRight", 39, "", True)
    browser.until("document.querySelector('#lines .current')?.innerText.includes('line 2500')")
    for _ in range(8):
        browser.run(
            "(() => {const l = document.querySelector('#lines');"
            "l.dispatchEvent(new WheelEvent('wheel')); l.scrollTop = l.scrollHeight})()"
        )
        browser.run("new Promise((r) => setTimeout(r, 60))")
    assert browser.run(count) <= 240
    last = browser.run("document.querySelector('#lines li:last-child').innerText")
    assert int(last.split()[-1]) > 2700
    assert browser.run("document.querySelector('#follow').hidden") is False
    browser.click("#follow")
    browser.until("document.querySelector('#lines .current')?.innerText.includes('line 2500')")


@needs_browser
def test_a_recording_that_no_browser_plays_gives_way_to_its_clips(browser, folder):
    make_video(folder / "out" / "c.mp4", seconds=20)
    page = page_of("../v.flv")
    link = VideoLink(href="../v.flv", name="v.flv", format="FLV (H.264)", playable=False)
    first, second = page.chapters
    chapters = [module.Chapter(**{**vars(first), "clip": "c.mp4"}), second]
    path = folder / "out" / "index.html"
    path.write_text(player_html(page_of("x", video=link, chapters=chapters)), encoding="utf-8")
    browser.open(path.as_uri())
    said = "document.querySelector('#message').innerText"
    browser.until(
        f"{said}.includes('v.flv cannot be played here') && {said}.includes('FLV (H.264)')"
    )
    assert browser.run(f"{said}.includes('its clip is played instead')")
    browser.click("#highlights .go")
    browser.until(f"{NOW} > 5 && {NOW} < 20 && !{PAUSED}")  # from second 25 of the recording
    browser.until("/^0:2[5-9]$/.test(document.querySelector('#now').textContent)")
    x, y = curve_point(browser, 55)  # of which there is no clip
    mouse(browser, "mousePressed", x, y)
    mouse(browser, "mouseReleased", x, y)
    browser.until(f"{PAUSED} && document.querySelector('#now').textContent === '0:55'")
    browser.click("#highlights .go")
    browser.until(f"!{PAUSED} && {NOW} < 20")
    browser.run("document.querySelector('video').pause()")
    browser.click("#tour")  # the second highlight has no clip: the tour ends with the first
    browser.run("document.querySelector('video').playbackRate = 8")
    browser.until("document.querySelector('#tour').ariaPressed === 'false' || " + PAUSED)


@needs_browser
def test_a_recording_of_which_only_the_sound_plays_says_so(browser, folder):
    make_video(folder / "out" / "old.mp4", seconds=10, codec="mpeg4", audio=True)
    path = folder / "out" / "index.html"
    path.write_text(player_html(page_of("old.mp4")), encoding="utf-8")
    browser.open(path.as_uri())
    said = "document.querySelector('#message').innerText"
    browser.until(f"{said}.includes('plays the sound alone') && {said}.includes('--exact')")
    browser.press("k", 75, "k")
    browser.until(f"{NOW} > 0.1")


@needs_browser
def test_a_recording_that_is_gone_is_said(browser, folder):
    path = folder / "out" / "index.html"
    path.write_text(player_html(page_of("../gone.mp4")), encoding="utf-8")
    browser.open(path.as_uri())
    browser.until("document.querySelector('#message').innerText.includes('v.mp4 cannot be played')")
    assert browser.run("document.querySelector('#file').closest('label').hidden") is False
    x, y = curve_point(browser, 30)
    mouse(browser, "mousePressed", x, y)
    mouse(browser, "mouseReleased", x, y)
    browser.until("document.querySelector('#now').textContent === '0:30'")  # chat goes on
    shared = []
    for _ in range(
        100
    ):  # the log comes when it likes: of the recording and of the clip in its place
        shared = [e["entry"] for e in browser.told("Log.entryAdded")]
        if len(shared) == 2:
            break
        time.sleep(0.05)
    assert [Path(entry["url"]).name for entry in shared] == ["gone.mp4", "01.mp4"]
    assert all(entry["source"] == "network" for entry in shared)
    browser.events.clear()


@needs_browser
@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_it_fits_the_screen(browser, folder, width):
    browser.size(width, 780)
    show(browser, folder)
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("document.querySelector('video').getBoundingClientRect().height") > 100
