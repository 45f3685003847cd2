"""Redis: names of keys.

Scripts name keys that are computed, so a Redis Cluster will not do. The keys, each after the
prefix; those that all models share:

- `partitions`: their number; whoever finds it missing sets the one that they work with.
- `segments:P` (stream) and `bytes:P`: messages of partition P, and their bytes together.
- `inputs:ID` (list): the last segments of a room as models take them (live/inputs.py), each after
  the id of its message: of these any model makes its own state.
- `waiting:ID` (hash): counts of a room's segments that wait for its next one (redis/waiting.py).
- `thumbnail:ID`: of a room.
- `clock` (hash): the clock of `seen`; it takes no part in a jump of Redis' own (redis/leases.py).
- `owners` (hash), `owned_until` and `owned:KEY` (sorted sets): whose a room is, and until when, by
  `owners_clock` (as `clock`, which posts must not move on while no worker lives: its rooms would
  seem silent to the next one); where services ask for keys.
- `ingested` (hash): of each partition of Kafka (CLUSTER/TOPIC/NUMBER), "OFFSET TIME" of the last
  record that was put into a stream: what is read again is not put there again.
- `clock_step`: seconds by which Redis' own clock was set while services ran (redis/clock.py).
- `events` (stream): what the workers tell; `rejected` (stream): messages that were put aside.
- `outcomes` (stream): what came of segments, with the scores that predicted it, and rooms' ends.
- `current`, `candidate`: ids of the models whose workers score; `candidate_since` (Unix seconds);
  `previous`: the one that was current before; `dropped` (set): those that may not come back by
  themselves; `to_delete` (set): those of which keys may be left; `models` (hash): what each takes
  and predicts (redis/models.py).

Those of one model, each after `model:MODEL`:

- `workers` (hash): a row of JSON a worker, which changes with every heartbeat: `beat`, `lease_s`,
  `partitions`. A worker lives while its row changes (redis/beats.py), whatever any clock says.
- `lease:P`: "WORKER/TOKEN" of the model's worker that has the partition.
- `room:ID`, `curve:ID` (list), `state:ID`: a room, whose first points may be another model's;
  `ranking`, `ended`, `seen` (sorted sets): its score, the end of its last segment (Unix seconds),
  when it last had one (`clock`).
- `done:P` (sorted set) and `done_bytes:P`: messages, "ID SIZE", that it is done with and another
  model is not; `refused:P` (set): ids of those that it refused while it was not current; `missed`:
  how many the candidate did not get, as it was too far behind.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "contentctr"
SHARED = (
    *("partitions", "clock", "events", "rejected", "owners", "owned_until", "owners_clock"),
    *("current", "candidate", "candidate_since", "previous", "dropped", "models", "clock_step"),
    *("outcomes", "to_delete", "ingested"),
)
"""Keys of which there is one."""
OF_MODEL = ("workers", "ranking", "ended", "seen", "missed")
"""Keys of which every model has one."""


@dataclass(frozen=True)
class Keys:
    """Names of all keys."""

    prefix: str = PREFIX
    model: str = ""
    """Whose keys are named; "": nobody's, and only those that all share may be asked for."""

    def __getattr__(self, name: str) -> str:
        """One of SHARED or OF_MODEL."""
        if name in SHARED:
            return f"{self.prefix}:{name}"
        if name in OF_MODEL:
            return f"{self.own}:{name}"
        raise AttributeError(name)

    def of(self, model: str) -> Keys:
        """With a model's."""
        return Keys(self.prefix, model)

    @property
    def own(self) -> str:
        """What the model's keys begin with."""
        assert self.model, "keys of no model"
        return f"{self.prefix}:model:{self.model}"

    def stream(self, partition: int) -> str:
        """Segments of a partition's rooms."""
        return f"{self.prefix}:segments:{partition}"

    def bytes(self, partition: int) -> str:
        """Bytes of the messages in the partition's stream."""
        return f"{self.prefix}:bytes:{partition}"

    def inputs(self, room_id: str) -> str:
        """The room's last segments as models take them, oldest first."""
        return f"{self.prefix}:inputs:{room_id}"

    def waiting(self, room_id: str) -> str:
        """Counts of the room's segments that wait for its next one."""
        return f"{self.prefix}:waiting:{room_id}"

    def thumbnail(self, room_id: str) -> str:
        """The room's latest thumbnail."""
        return f"{self.prefix}:thumbnail:{room_id}"

    def lease(self, partition: int) -> str:
        """Who has the partition: "WORKER/TOKEN"."""
        return f"{self.own}:lease:{partition}"

    def done(self, partition: int) -> str:
        """Messages of the partition that this model alone is done with."""
        return f"{self.own}:done:{partition}"

    def done_bytes(self, partition: int) -> str:
        """Bytes of these."""
        return f"{self.own}:done_bytes:{partition}"

    def refused(self, partition: int) -> str:
        """Those of them that it did not take while it was not current."""
        return f"{self.own}:refused:{partition}"

    def room(self, room_id: str) -> str:
        """What is known of a room, JSON."""
        return f"{self.own}:room:{room_id}"

    def curve(self, room_id: str) -> str:
        """The room's last scores, a list of "index score"."""
        return f"{self.own}:curve:{room_id}"

    def state(self, room_id: str) -> str:
        """What RoomScorer keeps of the room."""
        return f"{self.own}:state:{room_id}"

    def of_room(self, room_id: str) -> list[str]:
        """The model's keys of one room."""
        return [f(room_id) for f in (self.room, self.curve, self.state)]
