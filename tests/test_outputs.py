"""An output folder is new or ours: what a user has in it survives, and our earlier files go."""

import contextlib
import errno
import fcntl
import os

import pytest

from contentctr.errors import InputError
from contentctr.files import atomic, write_text
from contentctr.outputs import LOCK, MARKER, alone, check_output, output_folder, require_new

KIND = "a prediction"


def write(out, files, **options):
    with output_folder(out, KIND, files, **options):
        for name, text in files.items():
            write_text(out / name, text)


def tree(folder):
    """Every file's bytes, the marker aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }


@pytest.mark.parametrize("name", ["a/new", "."])
def test_a_new_or_empty_folder_is_taken_and_an_earlier_result_replaced(tmp_path, name):
    out = tmp_path / name
    write(out, {"whole.json": "1", "clips/old.mp4": "1"})
    assert tree(out) == {"whole.json": b"1", "clips/old.mp4": b"1"}
    write(out, {"whole.json": "2"})
    assert tree(out) == {"whole.json": b"2"} and not (out / "clips").exists()


def test_what_a_user_puts_beside_the_result_stays(tmp_path):
    write(tmp_path, {"curve.csv": "1", "clips/1.mp4": "1"})
    mine = {"notes.txt": "n", "clips/mine.mp4": "m", "clips/more/x.mp4": "x", ".hidden": "h"}
    for name, text in mine.items():
        write_text(tmp_path / name, text)
    write(tmp_path, {"curve.csv": "2"})
    assert tree(tmp_path) == {k: v.encode() for k, v in {**mine, "curve.csv": "2"}.items()}


def test_a_file_that_was_planned_and_not_written_may_be_the_users(tmp_path):
    with output_folder(tmp_path, KIND, ["curve.csv", "clips/2.mp4"]):
        write_text(tmp_path / "curve.csv", "1")
    write_text(tmp_path / "clips" / "2.mp4", "mine")
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"2\.mp4: would be overwritten, and contentctr did not"):
        write(tmp_path, {"curve.csv": "2", "clips/2.mp4": "2"})
    assert tree(tmp_path) == before
    write(tmp_path, {"curve.csv": "2"})
    assert tree(tmp_path) == {"curve.csv": b"2", "clips/2.mp4": b"mine"}


def test_a_folder_where_a_file_was_stays(tmp_path):
    write(tmp_path, {"curve.csv": "1"})
    (tmp_path / "curve.csv").unlink()
    write_text(tmp_path / "curve.csv" / "mine.txt", "m")
    write(tmp_path, {"other.csv": "2"})
    assert tree(tmp_path) == {"curve.csv/mine.txt": b"m", "other.csv": b"2"}


def test_somebody_elses_folder_is_refused(tmp_path, monkeypatch):
    for name in "edcba":
        write_text(tmp_path / "mine" / name, name)
    message = "mine: holds a, b, c and 2 more, which contentctr did not write there; choose a new"
    with pytest.raises(InputError, match=message):
        write(tmp_path / "mine", {"a": "b"})
    monkeypatch.chdir(tmp_path / "mine")
    with pytest.raises(InputError, match="mine: holds a, b, c and 2 more"):
        write(tmp_path.__class__("."), {"new": "b"})
    assert tree(tmp_path / "mine") == {name: name.encode() for name in "abcde"}
    assert not (tmp_path / "mine" / MARKER).exists()
    write(tmp_path / "ours", {"a": "1"})
    with pytest.raises(InputError, match="ours: holds a prediction; choose another folder for an"):
        check_output(tmp_path / "ours", "an evaluation")
    for path in (tmp_path / "mine" / "a", tmp_path / "mine" / "a" / "b", tmp_path / ("x" * 300)):
        with pytest.raises(InputError, match=r"must be a folder, or not there yet \("):
            write(path, {"a": "1"})
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"link: cannot be made a folder \(File exists\)"):
        write(tmp_path / "link", {"a": "1"})


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "a/../../mine", "", ".", MARKER, 7])
def test_a_marker_reaches_no_file_outside_of_its_folder(tmp_path, name):
    write_text(tmp_path / "mine", "m")
    text = f'{{"kind": "{KIND}", "files": [{name if name == 7 else chr(34) + name + chr(34)}]}}'
    write_text(tmp_path / "out" / MARKER, text)
    with pytest.raises(InputError, match=r"\.contentctr\.json: damaged"):
        write(tmp_path / "out", {"a": "1"})
    assert (tmp_path / "mine").read_text() == "m"


@pytest.mark.parametrize("when", ["before the first file", "between two files"])
def test_after_a_kill_the_next_run_goes_on_and_cleans_up(tmp_path, when):
    class Killed(BaseException):
        """Stands for a kill."""

    out = tmp_path / "out"
    with pytest.raises(Killed), output_folder(out, KIND, ["whole.json", "clips/1.mp4"]):
        if when == "between two files":
            write_text(out / "clips" / "1.mp4", "1")
            (out / "clips" / ".2.mp4.0123abcd.tmp").touch()
        raise Killed
    (out / ".whole.json.89abcdef.tmp").mkdir()
    (out / ".mine.tmp").touch()
    write(out, {"whole.json": "2"})
    assert tree(out) == {"whole.json": b"2", ".mine.tmp": b""} and not (out / "clips").exists()


def test_what_a_kill_left_of_the_marker_is_nobodys(tmp_path):
    (tmp_path / f".{MARKER}.0123abcd.tmp").touch()
    require_new(tmp_path, "a run")
    write(tmp_path, {"a": "1"})
    assert {path.name for path in tmp_path.iterdir()} == {"a", MARKER}
    with pytest.raises(InputError, match="choose a new or empty folder for a run"):
        require_new(tmp_path, "a run")


def test_earlier_files_may_stay_until_they_are_replaced(tmp_path):
    write(tmp_path, {"a": "1", "b": "1"})
    write(tmp_path, {"b": "2", "c": "2"}, keep=True)
    assert tree(tmp_path) == {"a": b"1", "b": b"2", "c": b"2"}
    write(tmp_path, {"d": "3"})
    assert tree(tmp_path) == {"d": b"3"}


@pytest.mark.parametrize("name", ["x" * 255, "直" * 85, "😀" * 63 + "abc", "a: -%03d [1] #.csv"])
def test_any_name_that_a_file_can_have_can_be_written(tmp_path, name):
    assert len(os.fsencode(name)) <= 255
    with atomic(tmp_path / name) as temporary:
        temporary.touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_made_for_work_that_wrote_nothing_goes_again(tmp_path):
    for failed in (False, True):
        with contextlib.suppress(ZeroDivisionError), alone(tmp_path / "a" / "b"):
            with pytest.raises(InputError, match="another process"), alone(tmp_path / "a" / "b"):
                pass
            assert (tmp_path / "a" / "b" / LOCK).exists()
            assert 1 / (not failed)
        assert not list(tmp_path.iterdir())
    with alone(tmp_path / "c"):
        write_text(tmp_path / "c" / "mine", "1")
    (tmp_path / "d").mkdir()
    with alone(tmp_path / "d"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"c", "d"}
    with alone(tmp_path / "c"):  # the lock was given back
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_worked_on_and_it_is_told(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    for name in ("a", "b"):
        with alone(tmp_path / "out"):
            write_text(tmp_path / "out" / name, "1")
        assert f"its drive has no locks ({os.strerror(number)})" in capsys.readouterr().err
    with alone(tmp_path / "none"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_faults_of_a_lock_are_raised(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError) as raised, alone(tmp_path):
        pass
    assert raised.value.errno == errno.EIO
