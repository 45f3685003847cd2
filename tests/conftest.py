"""What holds for every test process."""

import os

# Before torch is imported: small kernels on two threads beside another busy process wait for each
# other, and a test of a second takes half a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from contentctr.transcribe import recogniser


@pytest.fixture(autouse=True)
def nothing_is_heard_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed, a test whose rooms have sound says what hears them."""
    monkeypatch.setattr(recogniser, "lacking", lambda: "in tests")
