"""Comments within the token limit: how many are kept, and what tokenising them takes.

    python benchmarks/texts.py [FOLDER ...] [--simulated 8] [--max-tokens 128]

Each FOLDER holds room folders, of a real chat, say; beside them simulated rooms are made. Rooms are
cut into segments of 30 s. "plain" is a segment's comments as they came, "joined" what the encoders
are given (encode/comments.py). Kept is a comment that lies whole within the tokens that are left
after the cut; after joining, one whose joined comment does. Shares are over all segments:

    distinct   distinct comments, but for case and spaces, that are kept
    all        comments that are kept
    newest     of the last ten comments of each segment, those that are kept
    cut        segments that are cut
    tokens     mean tokens of a segment with comments after the cut, which encoding's time follows
    us         microseconds of the processor a segment, to join and to tokenise

The ratios are the result; times depend on the machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from contentctr.encode.comments import condense, shorten
from contentctr.encode.encoders import EMBEDDED, EMBEDDED_EN, TextPairEncoder, load_text
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.folder import find_rooms, read_room
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_room_folders

NEWEST = 10


@dataclass
class Kept:
    """Counts over segments: what is there, and of it what is kept."""

    there: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SHARES, 0))
    kept: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SHARES, 0))
    segments: int = 0
    tokens: int = 0
    cut: int = 0
    seconds: float = 0.0

    def add(self, name: str, flags: Iterable[bool]) -> None:
        """Flags of comments, true where kept."""
        known = list(flags)
        self.there[name] += len(known)
        self.kept[name] += sum(known)

    def values(self) -> dict[str, float]:
        """What a line of the table shows."""
        shares = {name: self.kept[name] / max(self.there[name], 1) for name in SHARES}
        return {
            **shares,
            "cut": self.cut / self.segments,
            "tokens": self.tokens / self.segments,
            "us": 1e6 * self.seconds / self.segments,
        }


SHARES = ("distinct", "all", "newest")
COLUMNS = (*SHARES, "cut", "tokens", "us")


def plain_key(comment: str) -> str:
    return " ".join(comment.split()).casefold()


def joined_key(comment: str) -> str:
    return shorten(comment)[0].casefold()


def kept_lines(encoder: TextPairEncoder, text: str) -> tuple[set[int], int, bool]:
    """Numbers of a text's lines that are whole within the limit; tokens; whether it is cut."""
    tokens = encoder.tokenizer(
        text=[encoder.prefix],
        text_pair=[text],
        truncation="longest_first",
        max_length=encoder.max_tokens,
        return_offsets_mapping=True,
        return_overflowing_tokens=True,
    )
    [own, *rest] = tokens.encodings
    ends = [end for (_, end), part in zip(own.offsets, own.sequence_ids, strict=True) if part == 1]
    last, start, kept = max(ends, default=0), 0, set()
    for number, line in enumerate(text.split("\n")):
        if not rest or start + len(line.rstrip()) <= last:
            kept.add(number)
        start += len(line) + 1
    return kept, len(own.ids), bool(rest)


def measure(encoder: TextPairEncoder, segments: list[str], *, joined: bool) -> Kept:
    """Counts over segments' comments, as they came or joined."""
    found, key = Kept(), joined_key if joined else plain_key
    for comments in segments:
        text = condense(comments) if joined else comments
        kept, tokens, cut = kept_lines(encoder, text)
        found.segments, found.tokens, found.cut = (
            found.segments + 1,
            found.tokens + tokens,
            found.cut + cut,
        )
        lines = [line for line in comments.split("\n") if line.strip()]
        if joined:
            # Newest first and each once: the same order as of the joined text's lines.
            order = dict.fromkeys(key(line) for line in reversed(lines))
            known = {name for number, name in enumerate(order) if number in kept}
            flags = [key(line) in known for line in lines]
        else:
            flags = [number in kept for number in range(len(lines))]
        by_text: dict[str, bool] = {}
        for line, flag in zip(lines, flags, strict=True):
            name = plain_key(line)
            by_text[name] = by_text.get(name, False) or flag
        found.add("distinct", by_text.values())
        found.add("all", flags)
        found.add("newest", flags[-NEWEST:])
    found.seconds = processor_seconds(
        lambda: encoder.tokenize(
            [""] * len(segments), [condense(c) for c in segments] if joined else segments
        )
    )
    return found


def processor_seconds(work: Callable[[], object]) -> float:
    """The least of three runs."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def segments_of(root: Path) -> list[str]:
    """Comments of every segment that has some."""
    texts: list[str] = []
    for folder in find_rooms(root):
        table = segment_rooms([read_room(folder)])
        texts += [text for text in table["comments"].fill_null("") if text.strip()]
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--simulated", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    chats = {str(folder): segments_of(folder) for folder in arguments.folders}
    if arguments.simulated:
        with tempfile.TemporaryDirectory() as name:
            config = SimulatorConfig(num_rooms=arguments.simulated, min_segments=50)
            write_room_folders(config, Path(name) / "rooms", show_progress=False)
            chats["simulated rooms"] = segments_of(Path(name) / "rooms")
    for encoder_name in (EMBEDDED, EMBEDDED_EN):
        encoder = load_text(encoder_name, max_tokens=arguments.max_tokens)
        for chat, segments in chats.items():
            comments = sum(text.count("\n") + 1 for text in segments)
            print(f"\n{encoder_name}, {chat}: {len(segments)} segments, {comments} comments")
            print(f"{'':8}" + "".join(f"{column:>10}" for column in COLUMNS))
            rows = {}
            for word in ("plain", "joined"):
                rows[word] = measure(encoder, segments, joined=word == "joined").values()
                print(f"{word:8}" + "".join(f"{rows[word][c]:10.3f}" for c in COLUMNS))
            ratios = [
                rows["joined"][c] / rows["plain"][c] if rows["plain"][c] else 1 for c in COLUMNS
            ]
            print(f"{'ratio':8}" + "".join(f"{ratio:10.3f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    main()
