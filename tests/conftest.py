"""What holds for every test process."""

import os

# Before torch is imported: small kernels on two threads beside another busy process wait for each
# other, and a test of a second takes half a minute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing is left in the user's own cache folder, nor taken from it.
os.environ["CONTENTCTR_CACHE"] = "none"

import pytest

from contentctr.transcribe import recogniser


@pytest.fixture(autouse=True)
def nothing_is_heard_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed, a test whose rooms have sound says what hears them."""
    monkeypatch.setattr(recogniser, "lacking", lambda: "in tests")
