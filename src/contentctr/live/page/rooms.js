// What is known of the live rooms, and their order. Nothing is drawn here.

import { visible } from "./words.js";

const CURVE_KEPT = 240;

export class Rooms {
  #rooms = new Map();
  #skew = 0;
  #ended = new Map();
  info = null;
  loaded = false;

  get size() {
    return this.#rooms.size;
  }

  /** Seconds on the service's clock. */
  get now() {
    return Date.now() / 1000 + this.#skew;
  }

  /** A live room, or one that has ended a moment ago and is still looked at. */
  room(id) {
    return this.#rooms.get(id) ?? this.#ended.get(id) ?? null;
  }

  setInfo(info) {
    this.info = info;
  }

  /** Take the service's list for all there is. */
  replace(list, now) {
    this.#skew = now - Date.now() / 1000;
    const before = this.#rooms;
    this.#rooms = new Map();
    for (const room of list.map(shown)) {
      const old = before.get(room.room_id);
      before.delete(room.room_id);
      this.#rooms.set(room.room_id, {
        ...room,
        curve: merge(sameStream(old, room) ? old.curve : [], room.curve),
        rank: old?.rank ?? null,
        rankBefore: old?.rankBefore ?? null,
        ended: false,
      });
    }
    for (const room of before.values()) this.#keepEnded(room);
    this.loaded = true;
  }

  /** One event `score`; an older one only fills the curve. */
  score(event) {
    const old = this.#rooms.get(event.room_id);
    this.#ended.delete(event.room_id);
    const curve = merge(old?.curve ?? [], event.curve);
    if (old !== undefined && event.index < old.index) {
      old.curve = curve;
      return;
    }
    const rank = old?.rank ?? null;
    const models = old?.models ?? []; // a change of model comes with a list of all rooms
    this.#rooms.set(event.room_id, { ...shown(event), curve, models, rank, rankBefore: rank, ended: false });
  }

  /** The whole curve of one room, with highlights as of now. */
  detail(room) {
    const old = this.#rooms.get(room.room_id);
    if (old === undefined) return;
    const curve = merge(old.curve, room.curve);
    if (room.index >= old.index) Object.assign(old, shown(room));
    old.curve = curve;
  }

  end(id) {
    const room = this.#rooms.get(id);
    if (room === undefined) return;
    this.#rooms.delete(id);
    this.#keepEnded(room);
  }

  #keepEnded(room) {
    room.ended = true;
    this.#ended.set(room.room_id, room);
    if (this.#ended.size > 20) this.#ended.delete(this.#ended.keys().next().value);
  }

  /** Share of a score, in [0, 1], that its age leaves in the ranking. */
  fade(room) {
    const { segment_seconds: length, full_age: full, gone_age: gone } = this.info;
    const age = (this.now - room.ended_at) / length;
    if (age < -1) return 0;
    return Math.min(1, Math.max(0, (gone - age) / (gone - full)));
  }

  /** All rooms, best first: by faded score, then by id. Sets each one's `rank`. */
  ranked() {
    const rows = [...this.#rooms.values()].map((room) => ({ room, total: this.fade(room) * room.score }));
    rows.sort((a, b) => b.total - a.total || (a.room.room_id < b.room.room_id ? -1 : 1));
    return rows.map(({ room }, place) => {
      room.rank = place + 1;
      room.rankBefore ??= room.rank;
      return room;
    });
  }
}

/** The room with its texts as they may be shown: ids of rooms are safe by their rule. */
function shown(room) {
  const [title, streamer] = [visible(room.title), visible(room.streamer_id)];
  return { ...room, title, streamer_id: streamer, comments: room.comments.map(visible) };
}

function sameStream(old, room) {
  return old !== undefined && old.index <= room.index;
}

/** Points of both curves by rising index; where both have one, the newer's. */
function merge(old, newer) {
  if (newer.length === 0) return old;
  const last = old.at(-1)?.index ?? -1;
  if (newer[0].index > last) return [...old, ...newer].slice(-CURVE_KEPT);
  const points = new Map(old.map((point) => [point.index, point]));
  for (const point of newer) points.set(point.index, point);
  return [...points.values()].sort((a, b) => a.index - b.index).slice(-CURVE_KEPT);
}
