"""A prepared folder is read once, and again only where another file lies in its place."""

import pickle
from collections import Counter
from pathlib import Path

import pytest

from contentctr.errors import InputError
from contentctr.files import read_json
from contentctr.store import folder
from contentctr.store import personal as people
from contentctr.store import rooms as prepared
from contentctr.store.opened import open_data
from contentctr.store.personal import PreparedPersonal
from contentctr.store.rooms import PreparedRooms
from make import write_data
from make_phd import make_data
from tiny_rooms import write_tiny_rooms


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each file was read."""
    seen: Counter[str] = Counter()
    for module, name in (
        (folder, "read_json"),
        (folder, "read_parquet"),
        (prepared, "read_parquet"),
    ):
        read = getattr(module, name)

        def counted(path, *args, read=read, **kwargs):  # type: ignore[no-untyped-def]
            seen[path.name] += 1
            return read(path, *args, **kwargs)

        monkeypatch.setattr(module, name, counted)
    return seen


def test_each_file_is_read_once(tmp_path: Path, reads: Counter[str]) -> None:
    data = write_data(tmp_path / "rooms")
    reads.clear()  # of the writer
    for _ in range(3):
        data.manifest(), data.rooms(), data.segments(texts=False)
    assert reads == {"manifest.json": 1, "rooms.parquet": 1, "segments.parquet": 1}
    videos = make_data(tmp_path / "videos")
    reads.clear()
    videos = PreparedPersonal(videos.root)
    for _ in range(3):
        assert videos.frame_rate == 1.0 and videos.content_hash()
        videos.users(), videos.selections(), videos.videos(), videos.captions()
    tables = ("users", "selections", "videos", "captions")
    assert reads == {"manifest.json": 1, **{f"{name}.parquet": 1 for name in tables}}


def test_texts_are_read_when_asked_for_and_not_kept(tmp_path: Path, reads: Counter[str]) -> None:
    data = write_tiny_rooms(tmp_path)
    assert "speech" not in data.segments(texts=False).columns
    for _ in range(2):
        assert data.segments()["speech"].null_count() == 0
    assert reads["segments.parquet"] == 3


def test_what_another_object_wrote_is_seen(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    users, before = data.users(), data.content_hash()
    tables = {name: getattr(data, name)() for name in ("selections", "videos", "captions")}
    longer = tables["videos"].with_columns(duration_s=tables["videos"]["duration_s"] + 1)
    people.write(
        tmp_path, {**tables, "users": users.head(1), "videos": longer}, {"frame_rate": 2.0}
    )
    assert (data.frame_rate, data.users().height) == (2.0, 1)
    assert data.videos().equals(longer) and data.content_hash() != before
    (tmp_path / "users.parquet").unlink()
    with pytest.raises(InputError, match=r"users.parquet: no such file"):
        data.users()


def test_a_callers_manifest_is_its_own(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    data.manifest()["counts"].clear()
    assert data.manifest()["counts"]["rooms"] == 12


def test_another_process_reads_for_itself(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    data.segments(texts=False)
    sent = pickle.dumps(data)
    assert len(sent) < 1000
    twin = pickle.loads(sent)
    assert twin == data and twin.segments(texts=False).equals(data.segments(texts=False))


def test_a_folder_is_what_its_manifest_says(tmp_path: Path) -> None:
    rooms, videos = write_data(tmp_path / "rooms"), make_data(tmp_path / "videos")
    assert open_data(rooms.root) == rooms and open_data(str(videos.root)) == videos
    with pytest.raises(InputError, match="task must be 'rooms' here, not 'personal'"):
        PreparedRooms(videos.root).manifest()
    with pytest.raises(InputError, match="task must be 'personal' here, not 'rooms'"):
        PreparedPersonal(rooms.root).manifest()
    manifest = read_json(rooms.root / "manifest.json")
    folder.write_json(rooms.root / "manifest.json", {**manifest, "schema_version": 0})
    with pytest.raises(InputError, match="schema_version must be 2, not 0; prepare the data again"):
        rooms.manifest()
