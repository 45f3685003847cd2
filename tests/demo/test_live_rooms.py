"""The live demo: simulated rooms posted to a real service, and the whole of it."""

import base64
import io
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from PIL import Image

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, DataConfig, ModelConfig
from contentctr.demo import live as demo_live
from contentctr.demo.live_rooms import LiveSettings, live_segments, play_rooms
from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.live.engine import Engine
from contentctr.live.service.app import create_app
from contentctr.live.service.backend import LocalBackend
from contentctr.live.service.server import make_server, serving
from contentctr.live.watch.client import Client
from contentctr.models.registry import build_model
from contentctr.score import checkpoint
from contentctr.simulate.features import SimulatedEncoders
from contentctr.simulate.mechanism import SimulatorConfig, draw_room
from contentctr.simulate.rooms import MECHANISM, write_features
from contentctr.store.vectors import data_spec

SIMULATOR = SimulatorConfig(num_streamers=3, min_segments=4, max_segments=6)
V, T = 6, 5


@contextmanager
def service(port=0, simulated=True):
    config = Config(
        data=DataConfig(window_len=4),
        model=ModelConfig(d_model=8, num_heads=2, perceiver_layers=1, decoder_layers=1),
    )
    spec, vocabulary = (
        DataSpec(visual_dim=V, text_dim=T, simulated=simulated),
        Vocabulary(streamers=["streamer0000"]),
    )
    torch.manual_seed(0)
    engine = Engine(build_model(config, spec, vocabulary), config, spec, vocabulary)
    backend = LocalBackend(engine)
    with serving(make_server(create_app(backend, engine), backend, port=port)) as url:
        yield url, backend


def settings(**changed):
    return LiveSettings(
        **{"simulator": SIMULATOR, "first_room": 7, "rooms": 3, "speed": 600.0, **changed}
    )


def test_segments_are_those_of_the_room():
    room = draw_room(SIMULATOR, 7)
    features = SimulatedEncoders(SIMULATOR, V, T).encode(room)
    segments = list(live_segments(SIMULATOR, room, features))
    assert [s["index"] for s in segments] == list(range(room.num_segments))
    for s, segment in enumerate(segments):
        assert segment["room_id"] == room.room_id
        for name, rows, there in (
            ("visual", features.visual_SV, features.has_visual_S[s]),
            ("text", features.text_ST, features.has_speech_S[s] | features.has_comments_S[s]),
        ):
            assert (segment[name] is not None) == there
            if there:
                sent = np.frombuffer(base64.b64decode(segment[name]), "<f2")
                np.testing.assert_array_equal(sent, rows[s])
        assert "\n".join(segment["comments"]) == features.comments_S[s]
    shown = [segment["thumbnail"]() for segment in segments]
    assert [t is not None for t in shown] == (room.has_video & (room.shown_SF[:, -1] >= 0)).tolist()
    image = Image.open(io.BytesIO(base64.b64decode(next(t for t in shown if t))))
    assert image.size == (256, 144)


def test_rooms_go_live_end_and_are_followed_by_others():
    with service() as (url, backend):
        client = Client(url)
        taken: list[tuple[str, int, bool]] = []
        keep = backend.store.keep

        def noted(room, thumbnail, now):
            taken.append((room.room_id, room.index, thumbnail is not None))
            keep(room, thumbnail, now)

        backend.store.keep = noted
        end = time.monotonic() + 20
        posted = play_rooms(
            client,
            settings(speed=200.0),
            stopped=lambda: len(taken) >= 40 or time.monotonic() > end,
        )
        assert posted == len(taken) >= 40
        ids = sorted({room_id for room_id, _, _ in taken})
        assert ids[:6] == [f"room{n:06d}" for n in range(7, 13)]
        for room_id in ids:
            indices = [index for r, index, _ in taken if r == room_id]
            assert indices == list(range(len(indices)))
        live = backend.store.scores()  # the others have ended
        assert 1 <= len(live) <= 3 and not set(live) & set(ids[:3])
        assert any(pictured for _, _, pictured in taken)
        # Once more at the same service: rooms of the same names begin anew.
        taken.clear()
        play_rooms(client, settings(), stopped=lambda: len(taken) >= 3 or time.monotonic() > end)
        assert [index for r, index, _ in taken if r == ids[0]][0] == 0
        client.close()


def test_a_service_that_goes_away_is_waited_for(monkeypatch):
    monkeypatch.setattr("contentctr.live.watch.client.FIRST_WAIT_S", 0.05)
    lines: list[str] = []
    stopping = threading.Event()
    with service() as (url, backend):
        client = Client(url)
        playing = threading.Thread(
            target=play_rooms,
            args=(client, settings(speed=300.0)),
            kwargs={"stopped": stopping.is_set, "report": lines.append},
        )
        playing.start()
        wait(lambda: len(backend.store) == 3)
    wait(lambda: len(lines) == 1)
    with service(port=int(url.rsplit(":", 1)[1])) as (_, backend):
        wait(lambda: len(backend.store) == 3)
        stopping.set()
        playing.join(10)
        client.close()
    assert "trying again" in lines[0] and lines[1:] == [f"{url}: takes segments again"]


def wait(condition):
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_service_of_another_model_is_refused():
    with service(simulated=False) as (url, _):
        client = Client(url)
        with pytest.raises(InputError, match="must be one of simulated rooms"):
            play_rooms(client, settings(), stopped=lambda: False)
        client.close()


@pytest.mark.parametrize("changed", [{"rooms": 0}, {"speed": 0}, {"speed": float("nan")}])
def test_settings_are_checked(changed):
    with pytest.raises(InputError, match="must be above 0"):
        settings(**changed)


def test_the_revisions_are_those_of_simulated_features(tmp_path):
    data = write_features(SimulatorConfig(num_rooms=3), tmp_path, visual_dim=V, text_dim=T)
    spec = data_spec(data)
    demo_live._check_spec(spec)
    other = write_features(SimulatorConfig(num_rooms=3, seed=1), tmp_path / "b", visual_dim=V)
    with pytest.raises(InputError, match="visual_revision"):
        demo_live._check_spec(data_spec(other))
    assert spec.text_revision == digest(MECHANISM, 0, "text", T)


@pytest.mark.slow
def test_the_whole_demo(tmp_path):
    lines: list[str] = []
    posted = demo_live.demo_live(tmp_path, rooms=3, port=0, seconds=3, report=lines.append)
    assert posted > 3 * 3 and lines[0].startswith("training a small model")
    assert "3 simulated rooms, 30 times as fast as life: http://127.0.0.1:" in lines[1]
    assert checkpoint.load(tmp_path / "run").spec.simulated
    lines.clear()
    demo_live.demo_live(tmp_path, rooms=2, speed=1, port=0, seconds=1, report=lines.append)
    assert lines[0].startswith("2 simulated rooms, in real time")  # the model is used again
