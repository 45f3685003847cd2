"""Work shared out over a Ray cluster: the same bytes as without, also when a worker is killed."""

import contextlib
import ctypes
import importlib.util
import json
import os
import re
import shutil
import signal
import struct
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch

from contentctr import shards
from contentctr.encode import items, job
from contentctr.encode.encoders import TextPairEncoder
from contentctr.encode.personal import encode_personal
from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError
from contentctr.evaluate import rooms
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.extras import install_hint
from contentctr.files import write_text
from contentctr.prepare import rooms as prepare
from contentctr.prepare.klm3 import prepare as klm3
from contentctr.prepare.rooms import prepare_rooms
from contentctr.shards import run_over
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_room_folders
from contentctr.train.loop import train_model
from klm3_data import write_klm3
from make import write_data
from phd_videos import prepared, write_downloads
from tiny_models import make_tiny_bert, make_tiny_swin
from tiny_rooms import write_tiny_rooms
from training import TINY

HERE = Path(__file__).parent
slow = pytest.mark.slow


def square(number: int) -> int:
    if number == 7:
        raise InputError("number must not be 7")
    return number * number


def make_square() -> object:
    return square


def test_here_it_is_a_loop_that_makes_its_function_once() -> None:
    made, done = [], []

    def make():  # type: ignore[no-untyped-def]
        made.append(1)
        return lambda item: done.append(item) or 10 * item

    results = run_over([3, 1, 2], make)
    assert next(results) == 30 and done == [3]  # one at a time, when it is asked for
    assert list(results) == [10, 20] and made == [1]
    assert list(run_over([], make)) == [] and list(run_over([], make, ray="nowhere:1")) == []


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(InputError, match=re.escape(f"--ray needs Ray: {install_hint('ray')}")):
        list(run_over([1], make_square, ray="local"))


def test_an_address_where_no_one_is_is_said_at_once() -> None:
    pytest.importorskip("ray")
    with pytest.raises(InputError, match="^--ray 127.0.0.1:1: no Ray cluster can be reached"):
        list(run_over([1], make_square, ray="127.0.0.1:1"))


def test_a_worker_needs_room_on_one_machine() -> None:
    class Cluster:
        @staticmethod
        def nodes():  # type: ignore[no-untyped-def]
            return [
                {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
                {"Alive": True, "Resources": {"CPU": 7.0}},
                {"Alive": False, "Resources": {"CPU": 64.0}},
            ]

    assert shards._num_workers(Cluster, {"num_cpus": 2, "num_gpus": 0}) == 2 + 3
    assert shards._num_workers(Cluster, {"num_cpus": 1, "num_gpus": 1}) == 1
    with pytest.raises(InputError, match=r"'CPU': 8.*at most \{'CPU': 7\}.*OMP_NUM_THREADS"):
        shards._num_workers(Cluster, {"num_cpus": 8, "num_gpus": 0})


def test_evaluation_scores_the_same_rooms_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has nothing but what it is sent gives the bytes of the loop."""
    data = write_data(tmp_path / "data")
    run = train_model(TINY, data.root, tmp_path / "run", show_progress=False)
    monkeypatch.setattr(rooms, "_ROOMS_AT_ONCE", 3)
    evaluate_model(run, data, tmp_path / "here", split="all", show_progress=False)
    seen = []

    def elsewhere(chunks, make, *, ray, cpus, gpus):  # type: ignore[no-untyped-def]
        assert (ray, cpus, gpus) == ("auto", torch.get_num_threads(), 0)
        seen.extend(chunks)
        return [make()(chunk) for chunk in chunks]

    monkeypatch.setattr(rooms, "run_over", elsewhere)
    evaluate_model(run, data, tmp_path / "there", split="all", ray="auto", show_progress=False)
    assert seen == [(0, 3), (3, 6), (6, 9), (9, 12)]
    assert files(tmp_path / "there") == files(tmp_path / "here")


def test_features_of_a_room_do_not_depend_on_the_rooms_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rooms share texts here, and the batch that a text is in decides about its last bits."""
    models = {
        "visual": str(make_tiny_swin(tmp_path / "v")),
        "text": str(make_tiny_bert(tmp_path / "t")),
    }
    data = write_tiny_rooms(tmp_path / "data")
    batches: list[list[str]] = []
    tokenize = TextPairEncoder.tokenize

    def seen(self, speech, comments):  # type: ignore[no-untyped-def]
        batches.append([*speech, *comments])
        return tokenize(self, speech, comments)

    monkeypatch.setattr(TextPairEncoder, "tokenize", seen)
    encode_rooms(data, **models, show_progress=False)
    assert len(batches) == 5 and batches == batches[:1] * 5
    whole = files(data.features_dir)
    for path in sorted(data.features_dir.glob("*.safetensors"))[::2]:
        path.unlink()
    encode_rooms(data, **models, show_progress=False)
    again = files(data.features_dir)
    assert {n for n in whole if whole[n] != again[n]} == {"manifest.json"}


def test_a_room_that_is_there_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ray does when a worker dies after its work: the same item once more."""
    models = {
        "visual": str(make_tiny_swin(tmp_path / "v")),
        "text": str(make_tiny_bert(tmp_path / "t")),
    }
    data = write_tiny_rooms(tmp_path / "data")
    written: Counter[str] = Counter()
    write = items.write_shard

    def counted(folder, name, rooms):  # type: ignore[no-untyped-def]
        written[name] += 1
        return write(folder, name, rooms)

    def twice(tasks, make, **options):  # type: ignore[no-untyped-def]
        return [(make()(task), make()(task))[0] for task in tasks]

    monkeypatch.setattr(items, "write_shard", counted)
    monkeypatch.setattr(job, "run_over", twice)
    encode_rooms(data, **models, ray="auto", show_progress=False)
    assert len(written) == 5 and set(written.values()) == {1}


def test_a_worker_with_other_encoders_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {
        "visual": str(make_tiny_swin(tmp_path / "v")),
        "text": str(make_tiny_bert(tmp_path / "t")),
    }
    data = write_tiny_rooms(tmp_path / "data")

    def elsewhere(tasks, make, **options):  # type: ignore[no-untyped-def]
        make_tiny_bert(tmp_path / "t", seed=5)
        return [make()(task) for task in tasks]

    monkeypatch.setattr(job, "run_over", elsewhere)
    with pytest.raises(InputError, match="must be the same on every machine"):
        encode_rooms(data, **models, ray="auto", show_progress=False)


def files(folder: Path) -> dict[str, bytes]:
    """Every file but what a killed writer left under a temporary name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".tmp")
    }


# On a real Ray: two workers on this machine.


@pytest.fixture(scope="module")
def two_workers():  # type: ignore[no-untyped-def]
    """Ray of this process, which `run_over` finds; threads as few as there are CPUs a worker."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra `ray` is not installed")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=200 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield ray
    ray.shutdown()
    torch.set_num_threads(threads)


class Written:
    """Counts how often each file was put into its place in a folder (Linux' inotify)."""

    def __init__(self, folder: Path) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.handle = self.libc.inotify_init1(os.O_NONBLOCK)
        moved_to = 0x80
        assert self.libc.inotify_add_watch(self.handle, os.fsencode(folder), moved_to) >= 0

    def counts(self) -> Counter[str]:
        found: Counter[str] = Counter()
        with contextlib.suppress(BlockingIOError):
            while True:
                events = os.read(self.handle, 1 << 16)
                while events:
                    _, mask, _, length = struct.unpack_from("iIII", events)
                    assert not mask & 0x4000, "the queue ran over"
                    name = events[16 : 16 + length].rstrip(b"\0").decode()
                    found[name] += not name.endswith(".tmp")  # safetensors renames into it
                    events = events[16 + length :]
        return +found


def workers() -> list[int]:
    """Processes of this one's Ray that run our work."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            title = (path / "cmdline").read_bytes().replace(b"\0", b" ")
            if title.startswith(b"ray::") and b"MapWorker" in title and b"IDLE" not in title:
                found.append(int(path.name))
    return found


class Kill(threading.Thread):
    """Kills a worker once some work is done; `killed` is its process."""

    def __init__(self, done) -> None:  # type: ignore[no-untyped-def]
        super().__init__(daemon=True)
        self.done, self.killed = done, 0
        self.start()

    def run(self) -> None:
        until = time.monotonic() + 120
        while not self.killed and time.monotonic() < until:
            if self.done() and (found := workers()):
                self.killed = found[0]
                os.kill(self.killed, signal.SIGKILL)
            time.sleep(0.001)


def write_slowly(folder: Path, number: int) -> tuple[int, int]:
    """Begin, work, write unless it is there: the form that everything shared out must have."""
    (folder / "begun" / f"{number}-{os.getpid()}").touch()
    time.sleep(0.3)
    if not (folder / "out" / str(number)).exists():
        write_text(folder / "out" / str(number), str(number))
    return number, os.getpid()


def make_slow(folder: Path) -> object:
    return partial(write_slowly, folder)


@slow
@pytest.mark.filterwarnings("default")
def test_a_killed_workers_items_are_done_by_others_in_order(two_workers, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "out").mkdir()
    written = Written(tmp_path / "out")
    kill = Kill(lambda: len(list((tmp_path / "begun").iterdir())) >= 4)
    two_workers.cloudpickle.register_pickle_by_value(__import__(__name__))
    found = list(run_over(range(12), partial(make_slow, tmp_path), ray="local"))
    assert [number for number, _ in found] == list(range(12))
    assert kill.killed and len({pid for _, pid in found}) >= 2
    begun = Counter(path.name.split("-")[0] for path in (tmp_path / "begun").iterdir())
    assert len(begun) == 12 and max(begun.values()) == 2  # the killed one's was begun again
    assert written.counts() == {str(number): 1 for number in range(12)}


@slow
@pytest.mark.filterwarnings("default")
def test_the_first_wrong_item_stops_the_run_with_its_message(two_workers) -> None:
    two_workers.cloudpickle.register_pickle_by_value(__import__(__name__))
    with pytest.raises(InputError, match="^number must not be 7$"):
        list(run_over(range(12), make_square, ray="local"))
    with pytest.raises(InputError, match="a worker needs .*'CPU': 3"):
        list(run_over(range(12), make_square, ray="local", cpus=3))


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@slow
@pytest.mark.filterwarnings("default")
def test_what_kills_every_worker_ends_the_run(two_workers) -> None:
    two_workers.cloudpickle.register_pickle_by_value(__import__(__name__))
    with pytest.raises(RuntimeError, match="a worker died 4 times"):
        list(run_over(range(1), lambda: die, ray="local"))


@slow
@pytest.mark.filterwarnings("default")
def test_prepare(two_workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimulatorConfig(num_rooms=10, num_streamers=3, min_segments=4, max_segments=6)
    write_room_folders(config, tmp_path / "rooms")
    monkeypatch.setattr(prepare, "_CHUNK_ROOMS", 2)
    monkeypatch.chdir(tmp_path)  # the workers were started elsewhere
    for name, ray in (("here", None), ("there", "local")):
        prepare_rooms("rooms", name, ray=ray, show_progress=False)
    assert files(tmp_path / "there") == files(tmp_path / "here")
    bad = sorted(Path("rooms").glob("*/meta.json")) or sorted(Path("rooms").rglob("*.json"))
    bad[5].write_text("{")
    messages = []
    for ray in (None, "local"):
        with pytest.raises(InputError) as caught:
            prepare_rooms("rooms", "no", ray=ray, show_progress=False)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and str(bad[5]) in messages[0]
    assert not Path("no").exists()


@slow
@pytest.mark.filterwarnings("default")
def test_encode_with_a_worker_killed(two_workers, tmp_path: Path) -> None:
    models = {
        "visual": str(make_tiny_swin(tmp_path / "v")),
        "text": str(make_tiny_bert(tmp_path / "t")),
    }
    data = write_tiny_rooms(tmp_path / "data", splits=("train",) * 24, length=20)
    encode_rooms(data, **models, show_progress=False)
    expected = files(data.features_dir)
    data.features_dir.rename(tmp_path / "expected")
    data.features_dir.mkdir()
    written = Written(data.features_dir)
    kill = Kill(lambda: len(list(data.features_dir.glob("*.safetensors"))) >= 3)
    counts = encode_rooms(data, **models, ray="local", show_progress=False)
    assert kill.killed and counts["rooms_encoded"] == 24
    assert files(data.features_dir) == expected and len(expected) == 25
    # The manifest is written before and after.
    assert written.counts() == {name: 1 + (name == "manifest.json") for name in expected}


@slow
@pytest.mark.filterwarnings("default")
def test_encode_users_videos(two_workers, tmp_path: Path) -> None:
    models = {
        "visual": str(make_tiny_swin(tmp_path / "v")),
        "text": str(make_tiny_bert(tmp_path / "t")),
    }
    data = prepared(tmp_path, write_downloads(tmp_path / "videos"))
    for inputs, folder in ((False, data.features_dir), (True, data.inputs_dir)):
        settings = {**models, "inputs": inputs, "show_progress": False}
        here = encode_personal(data, **settings)
        expected = files(folder)
        shutil.rmtree(folder)
        there = encode_personal(data, **settings, ray="local")
        assert here == there and there["videos_encoded"] == 3
        assert files(folder) == expected and len(expected) == 4


@slow
@pytest.mark.filterwarnings("default")
def test_evaluate(two_workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path / "data")
    run = train_model(TINY, data.root, tmp_path / "run", show_progress=False)
    monkeypatch.setattr(rooms, "_ROOMS_AT_ONCE", 2)
    for name, ray in (("here", None), ("there", "local")):
        evaluate_model(run, data, tmp_path / name, split="all", ray=ray, show_progress=False)
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert json.loads((tmp_path / "there" / "metrics.json").read_text())["counts"]["rooms"] == 12


@slow
@pytest.mark.filterwarnings("default")
def test_prepare_klm3(two_workers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_klm3(tmp_path / "in", rooms=60, segments=10, users=150, shards=3)
    monkeypatch.setattr(klm3, "num_buckets", lambda paths: 8)
    monkeypatch.chdir(tmp_path)
    for name, ray in (("here", None), ("there", "local")):
        klm3.prepare_klm3("in", name, ray=ray, show_progress=False)
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert len(list((tmp_path / "here" / "visual").glob("*.safetensors"))) > 1
