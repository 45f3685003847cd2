"""Prefetching changes when a step is made, and nothing else."""

import threading
import time

import pytest
import torch

from contentctr.windows.prefetch import prefetched
from make import make_batch


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("ahead")]


def counted(made: list[int], count: int = 10, fails_at: int = -1):
    for number in range(count):
        if number == fails_at:
            raise ValueError(f"step {number}")
        made.append(number)
        yield [make_batch(seed=number)]


@pytest.mark.parametrize("ahead", [0, 1, 2, 20])
def test_the_same_steps_in_the_same_order(ahead):
    with prefetched(counted([]), "cpu", ahead=ahead) as steps:
        found = [pieces[0] for pieces in steps]
    assert len(found) == 10
    for number, batch in enumerate(found):
        expected = make_batch(seed=number)
        assert torch.equal(batch.visual_BNV, expected.visual_BNV)
        assert torch.equal(batch.ids.hour_BN, expected.ids.hour_BN)
    assert not threads()


def test_never_more_than_ahead_are_waiting():
    made: list[int] = []
    with prefetched(counted(made), "cpu", ahead=2) as steps:
        for taken in range(1, 5):
            next(steps)
            deadline = time.monotonic() + 5
            while len(made) < taken + 2 and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(0.02)
            assert len(made) == taken + 2
    assert not threads()


def test_steps_are_made_while_the_model_works():
    where: list[int] = []

    def steps():
        for _ in range(3):
            where.append(threading.get_ident())
            yield [make_batch()]

    with prefetched(steps(), "cpu") as batches:
        assert sum(1 for _ in batches) == 3
    assert threading.get_ident() not in where and len(set(where)) == 1


@pytest.mark.parametrize("ahead", [0, 2])
@pytest.mark.parametrize("fails_at", [0, 3])
def test_an_exception_comes_where_its_step_would(ahead, fails_at):
    taken = 0
    with (
        pytest.raises(ValueError, match=f"step {fails_at}"),
        prefetched(counted([], fails_at=fails_at), "cpu", ahead=ahead) as steps,
    ):
        for _ in steps:
            taken += 1
    assert taken == fails_at and not threads()


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_leaving_early_ends_the_thread(error):
    made: list[int] = []
    with pytest.raises(error), prefetched(counted(made, 1000), "cpu") as steps:
        next(steps)
        raise error
    assert not threads()
    count = len(made)
    time.sleep(0.02)
    assert len(made) == count <= 4


def test_every_tensor_reaches_the_device():
    with prefetched(iter([[make_batch()]]), "meta") as steps:
        batch = next(steps)[0]
    tensors = [
        x for part in (batch, batch.ids) for x in vars(part).values() if isinstance(x, torch.Tensor)
    ]
    assert len(tensors) > 10 and {x.device.type for x in tensors} == {"meta"}
