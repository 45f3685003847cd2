"""The live page in a real headless Chromium, in front of the real service; the model is pretended,
so that scores and order are known."""

import asyncio
import base64
import io
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from browser import Browser, find_browser
from contentctr.batch import DataSpec
from contentctr.config import Config
from contentctr.live.engine import Taken
from contentctr.live.known_rooms import NewScore, Shown, with_score
from contentctr.live.ranking import RankSettings
from contentctr.live.scorer_segments import Scored
from contentctr.live.service.app import PAGE, create_app
from contentctr.live.service.backend import LocalBackend
from contentctr.live.service.server import make_server, serving
from contentctr.live.service.settings import ServiceSettings
from contentctr.live.shares import SegmentShares, Shares
from contentctr.live.watch.client import Client
from contentctr.visible import visible

needs_browser = pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
SHARES = SegmentShares(
    first=Shares(visual=0.25, text=0.25, latent=0.5), last=Shares(visual=0.2, text=0.5, latent=0.3)
)
SPEC = DataSpec(visual_dim=1, text_dim=1, simulated=True)
EVIL = "<img src=x onerror='window.broken=1'><b>bold</b>"


class Pretended:
    """In place of an Engine: the score is the visual feature."""

    def __init__(self):
        self.scorer = SimpleNamespace(
            batch_size=64,
            max_rooms=4096,
            window_len=20,
            forget=lambda room_id: self.last.pop(room_id, None),
        )
        self.config, self.spec, self.has_shares = Config(), SPEC, True
        self.model_id, self.drift, self.ranking = "0123456789ab", None, RankSettings()
        self.last = {}

    def check(self, segment):
        pass

    def score(self, segments):
        return [self._one(segment) for segment in segments]

    def _one(self, segment):
        late = segment.index <= self.last.get(segment.room_id, -1)
        self.last[segment.room_id] = max(segment.index, self.last.get(segment.room_id, -1))
        scored = Scored(
            room_id=segment.room_id,
            index=segment.index,
            target_index=segment.index,
            score=None if late else float(segment.visual[0]),
            status="late" if late else "scored",
        )
        return Taken(scored=scored, shares=SHARES)


class LoopBackend(LocalBackend):
    """One whose event log can be touched from another thread."""

    async def start(self):
        self.loop = asyncio.get_running_loop()
        await super().start()

    def do(self, work):
        async def run():
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(5)


@contextmanager
def service(port=0, rooms=(), **limits):
    """(url, client, backend) of a service that holds `rooms` already."""
    engine = Pretended()
    backend = LoopBackend(engine)
    for new in rooms:
        room = with_score(backend.store.room(new.room_id), new)
        backend.store.keep(room, new.shown.thumbnail, time.time())
    app = create_app(backend, engine, ServiceSettings(**limits))
    with serving(make_server(app, backend, port=port)) as url:
        client = Client(url, api_key=limits.get("api_key"))
        try:
            yield url, client, backend
        finally:
            client.close()


def picture(colour):
    file = io.BytesIO()
    Image.new("RGB", (32, 18), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def post(client, room_id, index, score, **more):
    body = {"room_id": room_id, "streamer_id": "anna", "index": index, "visual": [score], **more}
    assert client.post("/v1/segments", body)


@pytest.fixture(scope="module")
def shared_browser(tmp_path_factory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def browser(shared_browser) -> Iterator[Browser]:
    """A clean page, that must not have complained in the end."""
    shared_browser.events.clear()
    shared_browser.call("Network.setCacheDisabled", cacheDisabled=True)
    shared_browser.size(1280, 800)
    shared_browser.media()
    yield shared_browser
    assert shared_browser.told("Runtime.exceptionThrown") == []
    errors = [c for c in shared_browser.told("Runtime.consoleAPICalled") if c["type"] == "error"]
    assert errors == []
    # "network": what the browser itself says of refused requests, which some tests bring about.
    entries = [e["entry"] for e in shared_browser.told("Log.entryAdded")]
    assert [e for e in entries if e["source"] != "network"] == []
    shared_browser.run("sessionStorage.clear()")
    shared_browser.call("Page.navigate", url="about:blank")


ORDER = "[...document.querySelectorAll('[role=option]')].map((row) => row.dataset.room).join()"


def text(selector):
    return f"document.querySelector({json.dumps(selector)}).innerText"


@needs_browser
def test_rooms_appear_and_a_new_score_moves_curve_and_order(browser, tmp_path):
    with service() as (url, client, backend):
        browser.open(url + "/")
        browser.until(f"{text('#blank')}.startsWith('No live rooms')")
        browser.until(f"{text('#state')} === 'Live'")
        for index, score in enumerate((0.10, 0.12, 0.11)):
            post(client, "first", index, score, title="Songs", thumbnail=picture("red"))
        post(client, "second", 0, 0.05)
        browser.until(f"{ORDER} === 'first,second'")
        browser.until(f"{text('#title')} === 'Songs' && {text('#score')} === '11.0%'")
        assert browser.run(text("#rank")) == "1 of 2"
        assert browser.run(text("#room-facts")) == "first · anna · segment 2"
        path = "document.querySelector('#curve .line').getAttribute('d').match(/[ML]/g).join('')"
        assert browser.run(path) == "MLL"
        browser.until("document.querySelector('[data-room=first] img').naturalWidth === 32")
        assert browser.run("document.querySelector('[data-room=second] img').hidden")

        post(client, "second", 1, 0.2)
        browser.until(f"{ORDER} === 'second,first'")
        assert browser.run(text("[data-room=second] .place small")) == "▲1"
        assert browser.run(text("[data-room=second] .value b")) == "20.0%"
        spoken = "document.querySelector('[data-room=second]').ariaLabel"
        assert browser.run(spoken) == (
            "1, second, anna, predicted CTR 20.0%, highlight, 1 up since its last score"
        )

        post(client, "first", 4, 0.31)  # segment 3 is missing: the line is broken there
        browser.until(f"{ORDER} === 'first,second' && {path} === 'MLLM'")
        assert browser.run(text("#title")) == "Songs"  # and the chosen room is still the same
        assert browser.run(text("[data-room=first] .place small")) == "▲1"  # not since the start
        browser.until("!document.querySelector('#room-highlight').hidden")
        browser.until("document.querySelectorAll('#curve .band').length === 1")

        client.delete("/v1/rooms/first")
        browser.until(f"{ORDER} === 'second'")
        browser.until("!document.querySelector('#room-ended').hidden")
        assert "1 room" in browser.run(text("#facts"))
        assert browser.run(text("#facts")).endswith(" · model 0123456789ab")
        backend.engine.model_id = "ba9876543210"
        loop = backend._batcher._batches._task.get_loop()
        loop.call_soon_threadsafe(backend.events.reset)  # as where another model serves
        browser.until(f"{text('#facts')}.endsWith(' · model ba9876543210')")
        browser.picture(tmp_path / "page.png")
        assert all(
            e["request"]["url"].startswith((url + "/", f"blob:{url}"))
            for e in browser.told("Network.requestWillBeSent")
        )


@needs_browser
def test_highlights_are_those_of_the_whole_curve(browser):
    with service() as (url, client, _):
        for index, score in enumerate((0.3, 0.1, 0.1, 0.1, 0.1)):
            post(client, "room", index, score)
        browser.open(url + "/")
        left = "[...document.querySelectorAll('#curve .band')].map((b) => +b.getAttribute('x'))"
        browser.until(f"{left}.length === 1")
        at_first = browser.run(left)
        for index, score in enumerate((0.5, 0.1, 0.1, 0.1, 0.1), start=5):
            post(client, "room", index, score)
        browser.until(f"{left}.length === 2")
        assert browser.run(left)[0] == at_first[0]
        post(client, "room", 10, 0.9)  # with the next two the best three of thirteen
        post(client, "room", 11, 0.8)
        post(client, "room", 12, 0.7)
        browser.until(f"{left}.length === 1 && {left}[0] > {at_first[0]}")


@needs_browser
def test_another_model_is_marked_in_the_curve(browser):
    with service() as (url, client, backend):
        for index in range(4):
            post(client, "x", index, 0.2)
        backend.engine.model_id = "ba9876543210"
        for index in range(4, 9):
            post(client, "x", index, 0.3)
        [room] = client.get("/v1/rooms")["rooms"]
        assert room["models"] == [
            {"first": 0, "model": "0123456789ab"},
            {"first": 4, "model": "ba9876543210"},
        ]
        browser.open(url + "/")
        browser.until("document.querySelectorAll('#curve .change').length === 1")
        assert browser.run("document.querySelector('#curve .change title').textContent") == (
            "model ba9876543210"
        )
        assert "Model ba9876543210 took over at 2:00." in browser.run(text("#curve-text"))
        post(client, "x", 9, 0.3)  # an event, which does not say it again
        browser.until("document.querySelector('#curve-text').innerText.startsWith('10 scores')")
        assert browser.run("document.querySelectorAll('#curve .change').length") == 1


@needs_browser
def test_shares_of_further_parts_are_shown(browser, monkeypatch):
    more = Shares(visual=0.1, text=0.2, latent=0.25, statistics=0.3, sound=0.15)
    monkeypatch.setattr(sys.modules[__name__], "SHARES", SegmentShares(first=more, last=more))
    with service() as (url, client, _):
        post(client, "room", 0, 0.1)
        browser.open(url + "/")
        browser.until("document.querySelectorAll('.layer').length === 1")
        told = browser.run("document.querySelector('.layer').innerText")
        assert re.findall(r"[\d.]+%", told) == ["10.0%", "20.0%", "30.0%", "15.0%", "25.0%"]
        assert "earlier counts" in told and "sound" in told


@needs_browser
def test_another_target_is_neither_a_ctr_nor_percent(browser, monkeypatch):
    spec = DataSpec(visual_dim=1, text_dim=1, target="comment_rate", target_scale="rank")
    monkeypatch.setattr(sys.modules[__name__], "SPEC", spec)
    with service() as (url, client, _):
        post(client, "room", 0, 0.125)
        post(client, "room", 1, 0.5)
        browser.open(url + "/")
        browser.until(f"{text('#score')} === '0.500'")
        name = "predicted comment rate (rank inside the room)"
        assert browser.run(text("#unit")) == browser.run(text("#score-name")) == name
        told = browser.run("document.querySelector('[data-room=room]').ariaLabel")
        assert f"{name} 0.500" in told
        ticks = "[...document.querySelectorAll('#curve .left')].map((t) => t.textContent).join()"
        assert browser.run(ticks) == "0.0,0.2,0.4,0.6"
        page = browser.run("document.querySelector('main').textContent")
        assert "CTR" not in page and "%" not in browser.run(text("#curve-text"))


@needs_browser
def test_comments_and_titles_are_text_and_shares_are_shown(browser):
    with service() as (url, client, _):
        post(client, "room", 0, 0.1, title=EVIL, comments=["hello", EVIL], streamer_id=EVIL)
        browser.open(url + "/")
        browser.until("document.querySelectorAll('#comments li').length === 2")
        newest = browser.run("document.querySelector('#comments li').textContent")
        assert newest == EVIL and browser.run(text("#title")) == EVIL
        assert browser.run("document.querySelector('.who').textContent") == EVIL
        assert browser.run("window.broken") is None
        last, first = browser.run(
            "[...document.querySelectorAll('.layer')].map((layer) => layer.innerText)"
        )
        assert re.findall(r"[\d.]+%", last) == ["20.0%", "50.0%", "30.0%"]
        assert re.findall(r"[\d.]+%", first) == ["25.0%", "25.0%", "50.0%"]
        bars = (
            "[...document.querySelectorAll('.layer .stack')][0].querySelectorAll('i:not([hidden])')"
        )
        assert browser.run(f"[...{bars}].map((i) => i.style.width).join()") == ("20%,50%,30%")
        assert browser.run(text("#simulated")).startswith("Every score is simulated")
        for place in ("#unit", "#score-name", "#curve-name", "#shares-name"):
            assert "(simulated)" in browser.run(text(place))


@needs_browser
def test_what_would_turn_a_line_around_is_shown(browser):
    evil = "a\u202egnp.exe\x1b[2J\u2066 \u00ad"
    kept = "主播 👩\u200d👧 می\u200cخواهم"
    with service() as (url, client, _):
        post(client, "room", 0, 0.1, title=evil, comments=[evil, kept], streamer_id=evil)
        browser.open(url + "/")
        browser.until("document.querySelectorAll('#comments li').length === 2")
        shown = browser.run(
            "[...document.querySelectorAll('#comments li')].map(l => l.textContent)"
        )
        assert set(shown) == {visible(evil), kept}
        assert browser.run(text("#title")) == visible(evil)
        assert browser.run("document.querySelector('.who').textContent") == visible(evil)
        post(client, "room", 1, 0.1, title=evil + "2", streamer_id=evil)
        browser.until(f"{text('#title')}.endsWith('2')")
        assert browser.run(text("#title")) == visible(evil) + "2"


@needs_browser
def test_a_lost_connection_shows_heals_and_catches_up(browser):
    with service() as (url, client, backend):
        post(client, "a", 0, 0.2)
        post(client, "b", 0, 0.1)
        browser.open(url + "/")
        browser.until(f"{ORDER} === 'a,b' && {text('#state')} === 'Live'")
        post(client, "a", 1, 0.2)
        browser.until(f"{text('#room-facts')}.endsWith('segment 1')")
        lists = [e for e in asked(browser) if "/v1/rooms?" in e]
        assert len(lists) == 1

        backend.do(backend.events.close)
        browser.until(f"{text('#state')} === 'Connection lost'")
        browser.until(f"{text('#banner-text')}.includes('It said:')")
        assert "these are the last known scores" in browser.run(text("#banner-text"))
        assert browser.run(ORDER) == "a,b"
        post(client, "b", 1, 0.9)
        client.delete("/v1/rooms/a")
        backend.do(lambda: setattr(backend.events, "closed", False))
        browser.click("#retry")
        browser.until(f"{text('#state')} === 'Live' && {ORDER} === 'b'")
        assert browser.run("document.querySelector('#banner').hidden")
        # What was missed has been replayed: the list was not asked for again.
        assert [e for e in asked(browser) if "/v1/rooms?" in e] == lists


def asked(browser):
    return [e["request"]["url"] for e in browser.told("Network.requestWillBeSent")]


@needs_browser
def test_a_service_that_restarts_is_found_again(browser):
    with service() as (url, client, _):
        post(client, "old", 0, 0.2)
        browser.open(url + "/")
        browser.until(f"{ORDER} === 'old' && {text('#state')} === 'Live'")
        post(client, "old", 1, 0.2)
        browser.until(f"{text('#room-facts')}.endsWith('segment 1')")
    browser.until(f"{text('#state')} === 'Connection lost'")
    with service(port=int(url.rsplit(":", 1)[1])) as (_, client, _backend):
        post(client, "new", 0, 0.3)
        browser.until(f"{ORDER} === 'new' && {text('#state')} === 'Live'")
        post(client, "new", 1, 0.3)
        browser.until("document.querySelector('#room-ended').hidden === false")


@needs_browser
def test_old_scores_fade_and_fall(browser):
    with service() as (url, client, _):
        now = time.time()
        post(client, "old", 0, 0.9, ended_at=now - 500)
        post(client, "fading", 0, 0.4, ended_at=now - 80)  # a third is left of it
        post(client, "new", 0, 0.3)
        browser.open(url + "/")
        browser.until(f"{ORDER} === 'new,fading,old'")
        assert browser.run(text("[data-room=old] .value small")) == "too old"
        assert browser.run(text("[data-room=fading] .value small")) == "1 min old"
        bar = "+document.querySelector('[data-room=fading] .track i').style.opacity"
        assert 0.2 < browser.run(bar) < 0.34
        assert browser.run(text("[data-room=new] .value small")) == ""


@needs_browser
def test_by_keyboard_alone(browser):
    with service() as (url, client, _):
        for number in range(9):
            post(client, f"room{number}", 0, 0.9 - 0.1 * number)
        browser.open(url + "/")
        browser.until(f"{ORDER}.split(',').length === 9 && {text('#title')} === 'room0'")
        browser.press("Tab", 9)
        assert browser.run("document.activeElement.id") == "skip"
        browser.press("Enter", 13, text="\r")
        assert browser.run("document.activeElement.id") == "list"
        active = "document.querySelector('#list').getAttribute('aria-activedescendant')"
        assert browser.run(active) == "row-room0"
        outline = "getComputedStyle(document.querySelector('li.active')).outlineStyle"
        assert browser.run(outline) == "solid"
        browser.press("ArrowDown", 40)
        browser.press("ArrowDown", 40)
        assert browser.run(active) == "row-room2"
        post(client, "room2", 1, 0.99)  # the cursor moves with its room
        browser.until(f"{ORDER}.startsWith('room2,')")
        assert browser.run(active) == "row-room2"
        browser.press("End", 35)
        browser.press("ArrowUp", 38)
        assert browser.run(active) == "row-room7"
        browser.press("Enter", 13, text="\r")
        browser.until(f"{text('#title')} === 'room7'")
        assert browser.run("document.activeElement.id") == "title"
        assert browser.run("document.querySelector('[aria-selected=true]').dataset.room") == "room7"
        browser.press("Tab", 9, shift=True)
        assert browser.run("document.activeElement.id") == "list"
        browser.press("Tab", 9, shift=True)
        assert browser.run("document.activeElement.id") == "search"
        browser.run("document.querySelector('#search').select()")
        browser.call("Input.insertText", text="ROOM3")
        browser.until(f"{ORDER} === 'room3'")
        browser.call("Input.insertText", text="zzz")
        browser.until(f"{text('#blank')}.includes('matches') && {ORDER} === ''")


@needs_browser
def test_on_a_phone_the_list_and_then_the_room(browser):
    with service() as (url, client, _):
        post(client, "b", 0, 0.1, title="word" * 40, comments=["x" * 400])
        post(client, "a", 0, 0.2)
        browser.size(360, 640)
        browser.open(url + "/")
        browser.until(f"{ORDER} === 'a,b'")
        shown = "document.querySelector('{}').checkVisibility()"
        assert browser.run(shown.format("#list")) and not browser.run(shown.format("#room"))
        browser.click("[data-room=b]")
        browser.until(shown.format("#room"))
        assert not browser.run(shown.format("#list"))
        for width in (360, 320):
            browser.size(width, 640)
            browser.until("document.documentElement.scrollWidth <= innerWidth")
            room = "document.querySelector('#room')"
            assert browser.run(f"{room}.scrollWidth <= {room}.clientWidth")
        browser.click("#back")
        browser.until(shown.format("#list"))
        assert browser.run("document.activeElement.id") == "list"


@needs_browser
def test_a_key_is_asked_for_and_sent(browser):
    with service(api_key="secret") as (url, client, _):
        post(client, "a", 0, 0.2, thumbnail=picture("blue"))
        browser.open(url + "/")
        browser.until("document.querySelector('#key').open")
        assert browser.run("document.activeElement.id") == "key-input"
        browser.call("Input.insertText", text="wrong")
        browser.press("Enter", 13, text="\r")
        browser.until("document.querySelector('#key').open")
        browser.until(f"{text('#key-text')} === 'That key is not right.'")
        browser.call("Input.insertText", text="secret")
        browser.press("Enter", 13, text="\r")
        browser.until(f"{ORDER} === 'a' && {text('#state')} === 'Live'")
        post(client, "a", 1, 0.3)
        browser.until(f"{text('#score')} === '30.0%'")
        image = "document.querySelector('[data-room=a] img')"
        browser.until(f"{image}.naturalWidth === 32")
        assert browser.run(f"{image}.src").startswith(f"blob:{url}")


@needs_browser
def test_what_viewers_did_stands_beside_what_was_predicted(browser):
    with service() as (url, client, backend):
        for index in range(4):
            post(client, "a", index, 0.1 + 0.1 * index)
        browser.open(url + "/")
        browser.until(f"{ORDER} === 'a'")
        assert browser.run("document.querySelector('#watched').hidden")  # nothing came back
        outcomes = [
            {"room_id": "a", "index": k, "viewers": 100, "clickers": 12 * (k + 1)} for k in range(4)
        ]
        assert client.post("/v1/outcomes", {"outcomes": outcomes})["taken"] == 4
        backend.observed._until = 0.0
        browser.open(url + "/")
        browser.until("!document.querySelector('#watched').hidden")
        line = "Of the last hour: predicted 25.0%, observed 30.0%, in 4 segments"
        assert browser.run(text("#watched-line")) == line
        browser.run("document.querySelector('#watched-line').click()")
        rows = browser.run(text("#watched-rows")).split("\n")
        assert [row.split("\t")[:5] for row in rows] == [
            ["0123456789ab", span, "4", "25.0%", "30.0%"] for span in ("last hour", "last day")
        ]
        assert rows[0].split("\t")[-1] == "1.000"
        first = browser.run(text("#watched-bins")).split("\n")[0]
        assert first.split("\t") == ["10.0% to 15.0%", "1", "10.0%", "12.0%"]


@needs_browser
def test_a_thousand_rooms_do_not_stop_the_page(browser):
    now = time.time()
    rooms = [
        NewScore(
            room_id=f"room{n:04d}",
            streamer_id="s",
            index=i,
            target_index=i,
            score=0.1 + n / 10_000,
            shares=SHARES,
            shown=Shown(ended_at=now),
        )
        for n in range(1000)
        for i in range(30)
    ]
    with service(rooms=rooms) as (url, client, _):
        browser.open(url + "/")
        browser.until(f"{ORDER}.startsWith('room0999,room0998,')")
        assert "1,000 rooms" in browser.run(text("#facts"))
        assert browser.run("document.querySelectorAll('[role=option]').length") == 200
        assert browser.run(text("#more")).startswith("The first 200 of 1,000")
        browser.run(
            "window.last = performance.now(); window.longest = 0; setInterval(() =>"
            "{const now = performance.now(); longest = Math.max(longest, now - last); last = now})"
        )
        rng = np.random.default_rng(0)
        for n in rng.permutation(800)[:300]:
            post(client, f"room{n:04d}", 30, float(rng.uniform(0.1, 0.3)), streamer_id="s")
        post(client, "room0000", 31, 0.9, streamer_id="s")
        browser.until(f"{ORDER}.startsWith('room0000,')")
        assert browser.run("longest") < 500
        browser.run("document.querySelector('#search').focus()")
        browser.call("Input.insertText", text="room0123")
        browser.until(f"{ORDER} === 'room0123'")


@needs_browser
def test_rows_stand_still_where_motion_is_unwanted(browser):
    with service() as (url, client, _):
        for motion, moving in (("reduce", 0), ("no-preference", 2)):
            browser.media(prefers_reduced_motion=motion)
            post(client, "a", 2 * moving, 0.2)
            post(client, "b", 2 * moving, 0.1)
            browser.open(url + "/")
            browser.until(f"{ORDER} === 'a,b'")
            browser.run(
                "window.moved = 0; const animate = Element.prototype.animate;"
                "Element.prototype.animate = function (...a) {moved += 1; animate.apply(this, a)}"
            )
            post(client, "b", 2 * moving + 1, 0.3)
            browser.until(f"{ORDER} === 'b,a'")
            assert browser.run("moved") == moving


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_palettes_are_legible(browser, scheme):
    """Contrast as of WCAG 2: 4.5 for text, 3 for the line and the parts of the bars."""
    with service() as (url, client, _):
        post(client, "a", 0, 0.2)
        browser.media(prefers_color_scheme=scheme)
        browser.open(url + "/")
        names = re.findall(r"(--[a-z-]+): #", (PAGE / "style.css").read_text())
        style = "getComputedStyle(document.documentElement)"
        colours = {n: browser.run(f"{style}.getPropertyValue('{n}').trim()") for n in set(names)}
        assert (luminance(colours["--paper"]) > 0.5) is (scheme == "light")
    texts = [
        (ink, paper)
        for ink in ("ink", "muted", "link", "good")
        for paper in ("paper", "raised", "chosen")
    ]
    texts += [("bad", "paper"), ("ink", "bad-paper"), ("ink", "notice"), ("score", "paper")]
    shares = ("visual", "text", "statistics", "sound", "latent")
    parts = [(part, "raised") for part in ("score", *shares)]
    for least, pairs in ((4.5, texts), (3.0, parts)):
        for ink, paper in pairs:
            found = contrast(colours[f"--{ink}"], colours[f"--{paper}"])
            assert found >= least, (scheme, ink, paper, found)


def luminance(colour):
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_page_refers_to_no_other_host_and_has_nothing_inline():
    for path in PAGE.iterdir():
        found = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in found and "innerHTML" not in found, path.name
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*src=)", page)
