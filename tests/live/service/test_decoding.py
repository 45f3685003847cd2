"""Posted pictures: refused by what their heads say, read within bounds, never a fault of ours."""

import io
import re
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from PIL import Image

from contentctr.errors import InputError
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service import decode
from contentctr.live.service.budget import Budget
from contentctr.live.service.settings import ServiceSettings
from live_redis import wait_for
from live_service import T, V, b64, make_picture, make_post, running


def chunk(name, data):
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check


def png(width, height, *chunks):
    """A black PNG; a large one is small."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(((width + 7) // 8 + 1) * height), 9)
    parts = (chunk(b"IHDR", head), *chunks, chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class PretendedEncoder:
    """In place of LiveEncoder: slow where a test wants it."""

    def __init__(self, seconds=0.0):
        self.seconds, self.pictures = seconds, 0

    def preprocess(self, image):
        time.sleep(self.seconds)
        self.pictures += 1
        return np.zeros((2, 2, 3), np.uint8)

    def encode(self, raws):
        return [
            LiveSegment(
                room_id=raw.room_id,
                streamer_id=raw.streamer_id,
                index=raw.index,
                visual=np.zeros(V, np.float32),
                text=np.zeros(T, np.float32),
                has_speech=True,
                has_comments=False,
            )
            for raw in raws
        ]

    def forget(self, room_id):
        pass


def frames(room, *files, index=0):
    return {"room_id": room, "index": index, "frames": [b64(file) for file in files]}


@pytest.fixture(scope="module")
def service():
    encoder = PretendedEncoder()
    with running(encoder=encoder) as (client, _):
        yield client, encoder


BAD = {
    "a short profile": (png(8, 8, chunk(b"iCCP", b"name\x00")), "is damaged"),
    "an empty profile": (png(8, 8, chunk(b"iCCP", b"")), "is damaged"),
    "a short head": (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\x00"), "is damaged"),
    "half a picture": (make_picture("JPEG", (64, 64))[:-20], "is damaged"),
    "no size": (png(0, 8), "frames"),
    "a huge one": (png(20_000, 20_000), "is damaged|must have at most"),
    "a large one": (png(5000, 5000), "must have at most 9437184 pixels, not 5000 x 5000"),
    "a long one": (png(1, 9_000_000), "must be at most 16 times as long as wide"),
    "no picture": (b"GIF89a....", "must be a JPEG or PNG"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_told(service, name):
    client, encoder = service
    data, pattern = BAD[name]
    before = encoder.pictures
    answer = client.post("/v1/segments", json=frames("bad", data))
    assert answer.status_code == 422, answer.text
    assert re.search(pattern, answer.json()["detail"])
    assert encoder.pictures == before
    post = make_post("bad", thumbnail=b64(data[:48_000]))
    shown = client.post("/v1/segments", json=post)
    assert shown.status_code == (200 if name == "half a picture" else 422), shown.text


def test_whatever_a_decoder_raises_is_the_pictures_fault(service, monkeypatch):
    client, _ = service

    def broken(*arguments, **named):
        raise ZeroDivisionError

    monkeypatch.setattr(Image, "open", broken)
    answer = client.post("/v1/segments", json=frames("x", make_picture()))
    assert answer.status_code == 422 and "damaged" in answer.json()["detail"]


def test_a_thumbnail_is_refused_by_its_pixels(service):
    client, _ = service
    for size, status in (((1280, 720), 200), ((1281, 720), 422)):
        data = png(*size)
        post = make_post(f"t{size[0]}", thumbnail=b64(data))
        answer = client.post("/v1/segments", json=post)
        assert answer.status_code == status, answer.text
    assert "thumbnail: must have at most 921600 pixels, not 1281 x 720" in answer.text


def test_a_posts_pixels_are_bounded_before_any_is_read(service, monkeypatch):
    client, encoder = service
    monkeypatch.setattr(decode, "MAX_POST_PIXELS", 100)
    before = encoder.pictures
    answer = client.post("/v1/segments", json=frames("x", *[make_picture()] * 2))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "frames: must have at most 100 pixels in all, not 128"
    assert encoder.pictures == before


def test_many_posts_of_one_client_do_not_keep_another_out():
    """Eight places, four of one client: its other posts are told to come again, at once."""
    encoder, go_on = PretendedEncoder(), threading.Event()
    preprocess = encoder.preprocess
    encoder.preprocess = lambda image: go_on.wait(60) and preprocess(image)
    settings = ServiceSettings(max_encoding=8)
    with running(encoder=encoder, settings=settings) as (client, _):
        other = httpx.HTTPTransport(local_address="127.0.0.2")
        honest = httpx.Client(transport=other, base_url=client.base_url, timeout=60)

        def post(sender, room):
            body = frames(room, make_picture())
            return sender.post("/v1/segments", json=body, timeout=60).status_code

        with honest, ThreadPoolExecutor(21) as pool:
            attacks = [pool.submit(post, client, f"a{k}") for k in range(20)]
            wait_for(lambda: sum(one.done() for one in attacks) == 16, 30)
            assert {one.result() for one in attacks if one.done()} == {503}
            metrics = client.get("/metrics").text
            assert "contentctr_encoding_posts 4.0" in metrics
            assert "contentctr_decoding_pixels 256.0" in metrics
            expected = pool.submit(post, honest, "honest")
            wait_for(lambda: "encoding_posts 5.0" in client.get("/metrics").text, 30)
            go_on.set()
            assert expected.result() == 200
            assert sorted(one.result() for one in attacks) == [200] * 4 + [503] * 16


def test_a_budget_is_one_and_one_clients_part_of_it():
    budget = Budget(10, 6)
    assert budget.take("a", 6) and not budget.take("a") and budget.held == 6
    assert not budget.take("b", 5) and budget.take("b", 4) and not budget.take("c")
    budget.give("a", 6)
    with budget.hold("c", 6) as there:
        assert there
        with budget.hold("d") as another:
            assert not another
    assert budget.held == 4 and dict(budget._of_client) == {"b": 4}
    with pytest.raises(InputError), budget.hold("c") as there:
        raise InputError("x")
    assert budget.held == 4


def test_a_jpeg_that_is_posted_is_read():
    seen = []
    encoder = PretendedEncoder()
    encoder.preprocess = lambda image: seen.append(image) or np.zeros((2, 2, 3), np.uint8)
    with running(encoder=encoder) as (client, _):
        body = frames("x", make_picture("JPEG", (40, 30)))
        assert client.post("/v1/segments", json=body).status_code == 200
        text = {"room_id": "y", "index": 0, "speech": "hello"}
        assert client.post("/v1/segments", json=text).status_code == 200
    expected = Image.open(io.BytesIO(make_picture("JPEG", (40, 30)))).convert("RGB")
    assert len(seen) == 1 and seen[0].tobytes() == expected.tobytes()


def test_a_jpeg_of_many_scans_is_refused():
    """Each scan of some bytes goes over all of the picture: a minute of work in a megabyte."""
    data = io.BytesIO()
    Image.new("RGB", (64, 64)).save(data, "JPEG", progressive=True)
    whole = data.getvalue()
    assert decode._size(whole, "frames[0]") == (64, 64)
    start = whole.index(b"\xff\xda")
    scan = whole[start : whole.index(b"\xff", start + 2)]
    bomb = whole[:start] + scan * 1000 + whole[start:]
    with pytest.raises(InputError, match="at most 64 scans"):
        decode._size(bomb, "frames[0]")
