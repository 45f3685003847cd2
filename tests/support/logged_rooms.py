"""Room folders of logs alone, a minute each."""

import json
from pathlib import Path

from contentctr.outputs import LOCK


def make(root: Path, number: int, *, head: dict[str, object] | None = None, **files: str) -> Path:
    """Room `number`, of 65 s, started on day `number` of May."""
    folder = root / f"room{number}"
    folder.mkdir(parents=True, exist_ok=True)
    record: dict[str, object] = {
        "room_id": f"r{number}",
        "streamer_id": "s",
        "started_at": f"2024-05-{number:02}T20:00:00Z",
        "duration_s": 65,
        **(head or {}),
    }
    (folder / "room.json").write_text(json.dumps(record))
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


EVENTS = "user_id,t,kind\na,1,exposure\nb,2,exposure\nb,3,click\nc,31,exposure\nd,64,click\n"
CHAT = "t,user_id,text\n1,a,hello\n31,a,one\n32,b,two\n"


def contents(out: Path) -> dict[str, bytes]:
    files = [p for p in out.iterdir() if p.name != LOCK] if out.exists() else []
    return {p.name: p.read_bytes() for p in files}
