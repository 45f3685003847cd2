"""One run that stores what the encoders make of a prepared folder's rooms or videos.

Items, which are rooms or videos, are written one by one, so that a killed run goes on where it was.
An item's rows do not depend on the items before it, so they are the same to the bit whoever encodes
which items. rooms.py and personal.py say what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from contentctr.encode.items import Item, ItemEncoder, Source
from contentctr.encode.sound import EXTRA
from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.files import read_json, remove_leftovers
from contentctr.outputs import alone, require_new
from contentctr.progress import progress_bar
from contentctr.shards import run_over
from contentctr.store.vectors import (
    ROOM_FILE,
    Entry,
    read_entry,
    room_file,
    shard_index,
    write_manifest,
)


def run_job(source: Source, *, ray: str | None, show_progress: bool) -> dict[str, Any]:
    """Encode what is missing in the store, and remove what is gone.

    Args:
        source: the folder and its encoders.
        ray: the Ray cluster whose machines encode, as `run_over` takes it; None: here.
        show_progress: show a bar on a terminal.

    Returns:
        Counts of what was done, and under "warnings" what the user should know.

    Raises:
        InputError: an encoder or an item's media cannot be had, or another process is at work in
            the folder.
    """
    with alone(source.data.root, f"on the {source.item}s here"):
        # On a cluster the encoders run elsewhere; here they only say which ones they are.
        encoder = source.load(torch.device("cpu") if ray else source.settings.device)
        return _Job(source, encoder).run(ray, show_progress=show_progress)


class _Job:
    """One run of `run_job`."""

    def __init__(self, source: Source, encoder: ItemEncoder) -> None:
        self.source, self.encoder, self.store = source, encoder, source.store
        self.warnings: list[str] = []
        self.removed = 0

    def run(self, ray: str | None, *, show_progress: bool) -> dict[str, Any]:
        if not self.encoder.take_as_stored():
            self.encoder.choose_engines()
        items = list(self.source.items(self.encoder))
        _claim(self.store)
        self.encoder.hashes.save()
        # Said before anything is written: a store that is half of other encoders, or half there,
        # is never read.
        self._manifest({}, complete=False)
        index = self._clean({item.name for item in items})
        todo = _left(items, index)
        if todo:
            spec = self.encoder.spec
            self.encoder.choose_engines()
            if self.encoder.spec != spec:
                items = list(self.source.items(self.encoder))
                todo = _left(items, index)
                self._manifest({}, complete=False)
        name, row = f"{self.source.item}s", f"{self.source.row}s"
        counts = {
            name: len(items),
            f"{name}_encoded": len(todo),
            f"{name}_kept": len(items) - len(todo),
            f"{name}_removed": self.removed,
            row: sum(len(item.spans) for item in items),
            f"{row}_encoded": sum(len(item.spans) for item in todo),
        }
        with progress_bar("encode", counts[f"{row}_encoded"], show=show_progress) as bar:
            for item, warnings in zip(todo, self._encode(todo, ray), strict=True):
                self.warnings += warnings
                bar.advance(len(item.spans))
        sound = self.encoder.sound
        if sound is not None and not sound.has_shares:
            self.warnings.append(
                "sound: shares of speech, singing and music are stored as missing; for them, "
                f"{install_hint(EXTRA)} and encode again"
            )
        counts |= self._flags(items)
        self._manifest(counts, complete=True)
        self.warnings[:0] = self.encoder.notes
        return {**counts, **self.encoder.engines, "warnings": self.warnings}

    def _encode(self, items: Sequence[Item], ray: str | None) -> Iterator[list[str]]:
        make = partial(self.source.worker, self.encoder.spec) if ray else lambda: self.encoder
        on_gpu = self.source.settings.device.type != "cpu"
        cpus = 1 if on_gpu else self.source.settings.threads
        return run_over(items, make, ray=ray, cpus=cpus, gpus=int(on_gpu))

    def _flags(self, items: Sequence[Item]) -> dict[str, int]:
        """How many rows have pictures, and texts of each kind."""
        stored = ("has_visual",) if self.encoder.sound is None else ("has_visual", "has_sound")
        total = dict.fromkeys((*stored, *self.source.text_flags(())), 0)
        for item in items:
            path = self.store / f"{room_file(item.name)}.safetensors"
            # What decoded is known from the store alone, where the item was kept.
            found = read_entry(shard_index(path)[item.name], stored)
            for name, values in (found | self.source.text_flags(item.pairs or ())).items():
                total[name] += int(values.sum())
        row = f"{self.source.row}s"
        return {name.replace("has", f"{row}_with", 1): count for name, count in total.items()}

    def _manifest(self, counts: dict[str, int], *, complete: bool) -> None:
        write_manifest(
            self.store,
            self.encoder.spec,
            counts=counts,
            complete=complete,
            segments_hash=self.source.data.content_hash(),
        )

    def _clean(self, names: set[str]) -> dict[str, Entry]:
        """What the store has of these items; files of others and damaged ones are removed."""
        index: dict[str, Entry] = {}
        for path in sorted(self.store.glob("*.safetensors")):
            try:
                found = shard_index(path)
            except InputError as error:
                self.warnings.append(f"{error} (it was removed and is encoded again)")
                path.unlink()
                continue
            wanted = {n: e for n, e in found.items() if n in names and path.stem == room_file(n)}
            if not wanted:
                path.unlink()
                self.removed += 1
            index |= wanted
        return index


def _left(items: Sequence[Item], index: Mapping[str, Entry]) -> list[Item]:
    """Items that are not stored as they should be."""
    return [item for item in items if not all(item.done(index.get(item.name)))]


def _claim(store: Path) -> None:
    """See that a store is new or was begun as one, and remove what a killed run left half written.

    Raises:
        InputError: the folder, or a file among its shards, is somebody else's.
    """
    manifest = store / "manifest.json"
    if not (manifest.is_file() and {"complete", "spec"} <= read_json(manifest).keys()):
        require_new(store, "what is encoded")
    remove_leftovers(store)
    for path in sorted(store.glob("*.safetensors")):
        if not ROOM_FILE.fullmatch(path.stem):
            raise InputError(f"{path}: is none of the files that are kept there; move it elsewhere")
