"""The service does without what trains models and opens recordings."""

import subprocess
import sys
from pathlib import Path

HEAVY = ("numba", "av", "scipy", "transformers", "onnxruntime", "sklearn")
SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "support")!r})
import contentctr.live.service.app
print(*(name for name in {HEAVY} if name in sys.modules), "|", end=" ")
from live_service import make_post, running
with running() as (client, _):
    for index in range(3):
        assert client.post("/v1/segments", json=make_post("x", index)).status_code == 200
    assert client.get("/v1/rooms/x").status_code == 200
    assert client.get("/metrics").status_code == 200
print(*(name for name in {HEAVY} if name in sys.modules))
"""


def test_a_started_service_has_imported_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["|"]
