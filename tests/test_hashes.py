import os
from pathlib import Path

from contentctr.files import file_sha256
from contentctr.hashes import FILE, ContentHashes


def test_a_file_is_read_once_as_long_as_it_stays(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("1")
    two.write_text("22")
    hashes = ContentHashes(tmp_path)
    assert [hashes.of(path) for path in (one, two, one)] == [
        file_sha256(path) for path in (one, two, one)
    ]
    assert hashes.read == 3
    hashes.save()

    again = ContentHashes(tmp_path)
    assert (again.of(one), again.read) == (file_sha256(one), 0)
    os.utime(two, ns=(5, 5))
    assert (again.of(two), again.read) == (file_sha256(two), 2)
    one.unlink()
    again.save()
    assert ContentHashes(tmp_path)._known.keys() == {str(two), str(one)}  # it was asked for
    last = ContentHashes(tmp_path)
    two.write_text("333")
    last.of(two)
    last.save()
    assert ContentHashes(tmp_path)._known.keys() == {str(two)}


def test_a_damaged_memory_costs_time_alone(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("1")
    (tmp_path / FILE).write_bytes(b"PAR1 not")
    hashes = ContentHashes(tmp_path)
    assert hashes.of(path) == file_sha256(path)
    hashes.save()
    assert ContentHashes(tmp_path)._known[str(path)][2] == file_sha256(path)


def test_nothing_is_remembered_without_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "one"
    path.write_text("1")
    hashes = ContentHashes()
    hashes.of(path)
    hashes.save()
    assert os.listdir(tmp_path) == ["one"]
