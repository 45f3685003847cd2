// The ranked list. Focus stays on the list (aria-activedescendant), so rows may move freely.

import { pictureUrl } from "./api.js";
import { setText, showScore, span } from "./words.js";

const SHOWN = 200;
const ROW = 64; // px, as in style.css
const MOVE_MS = 350;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class List {
  #list = document.getElementById("list");
  #template = document.getElementById("row-template").content.firstElementChild;
  #rows = new Map();
  #order = [];
  #active = null;
  #onChoose;

  constructor({ onChoose }) {
    this.#onChoose = onChoose;
    this.#list.addEventListener("keydown", (event) => this.#key(event));
    this.#list.addEventListener("focus", () => this.#setActive(this.#active ?? this.#order[0] ?? null));
    this.#list.addEventListener("click", (event) => {
      const id = event.target.closest("[role=option]")?.dataset.room;
      if (id === undefined) return;
      this.#setActive(id);
      this.#onChoose(id);
    });
  }

  focus() {
    this.#list.focus();
  }

  /** Draw the first rooms of `ranked`. */
  draw(ranked, { rooms, chosen }) {
    const shown = ranked.slice(0, SHOWN);
    const top = Math.max(0.01, ...shown.map((room) => room.score));
    const [from, to] = this.#inView();
    const wanted = new Set(shown.map((room) => room.room_id));
    for (const [id, row] of this.#rows) {
      if (wanted.has(id)) continue;
      row.element.remove();
      row.picture.clear();
      this.#rows.delete(id);
    }
    const before = new Map(this.#order.map((id, place) => [id, place]));
    this.#order = shown.map((room) => room.room_id);
    let next = this.#list.firstElementChild;
    shown.forEach((room, place) => {
      const row = this.#row(room.room_id);
      if (row.element === next) next = next.nextElementSibling;
      else this.#list.insertBefore(row.element, next);
      const was = before.get(room.room_id);
      const seen = place >= from && place <= to;
      if (was !== undefined && was !== place && seen) slide(row.element, (was - place) * ROW);
      const isChosen = room.room_id === chosen;
      update(row, room, { rooms, top, place, size: ranked.length, chosen: isChosen });
      if (seen) row.picture.show(room.thumbnail);
    });
    if (this.#active !== null && !wanted.has(this.#active)) this.#setActive(this.#order[0] ?? null);
  }

  #inView() {
    const first = Math.floor(this.#list.scrollTop / ROW);
    return [first - 2, first + Math.ceil(this.#list.clientHeight / ROW) + 2];
  }

  #row(id) {
    let row = this.#rows.get(id);
    if (row === undefined) {
      const element = this.#template.cloneNode(true);
      element.dataset.room = id;
      element.id = `row-${id}`;
      const find = (selector) => element.querySelector(selector);
      row = {
        element,
        picture: new Picture(find("img")),
        place: find(".place b"),
        move: find(".place small"),
        name: find(".name"),
        id: find(".id"),
        who: find(".who"),
        score: find(".value b"),
        bar: find(".track i"),
        age: find(".value small"),
      };
      this.#rows.set(id, row);
    }
    return row;
  }

  #setActive(id) {
    this.#rows.get(this.#active)?.element.classList.remove("active");
    this.#active = id;
    const row = this.#rows.get(id);
    if (row === undefined) {
      this.#list.removeAttribute("aria-activedescendant");
      return;
    }
    row.element.classList.add("active");
    this.#list.setAttribute("aria-activedescendant", row.element.id);
    row.element.scrollIntoView({ block: "nearest" });
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const place = this.#order.indexOf(this.#active);
    const last = this.#order.length - 1;
    const page = Math.max(1, Math.floor(this.#list.clientHeight / ROW) - 1);
    const to = {
      ArrowDown: place + 1,
      ArrowUp: place - 1,
      PageDown: place + page,
      PageUp: place - page,
      Home: 0,
      End: last,
    }[event.key];
    if (to !== undefined && last >= 0) this.#setActive(this.#order[Math.min(Math.max(to, 0), last)]);
    else if ((event.key === "Enter" || event.key === " ") && place >= 0) this.#onChoose(this.#active);
    else return;
    event.preventDefault();
  }
}

function update(row, room, { rooms, top, place, size, chosen }) {
  const { element } = row;
  const fade = rooms.fade(room);
  const moved = room.rankBefore - room.rank;
  setText(row.place, String(room.rank));
  setText(row.move, moved === 0 ? "" : `${moved > 0 ? "▲" : "▼"}${Math.abs(moved)}`);
  row.move.className = moved > 0 ? "up" : "down";
  const move = moved === 0 ? "" : `${Math.abs(moved)} ${moved > 0 ? "up" : "down"} since its last score`;
  row.move.title = move;
  setText(row.name, (room.highlight ? "★ " : "") + (room.title || room.room_id));
  setText(row.id, room.title ? room.room_id : "");
  setText(row.who, room.streamer_id);
  setText(row.score, showScore(room.score, rooms.info));
  row.bar.style.width = `${((100 * room.score) / top).toFixed(1)}%`;
  row.bar.style.opacity = String(Math.max(0.15, fade).toFixed(2));
  const age = fade === 1 ? "" : fade === 0 ? "too old" : `${span(rooms.now - room.ended_at)} old`;
  setText(row.age, age);
  const score = `predicted ${rooms.info.target_name} ${showScore(room.score, rooms.info)}`;
  const spoken = [room.rank, room.title, room.room_id, room.streamer_id, score, room.highlight ? "highlight" : "", age, move];
  setAttribute(element, "aria-label", spoken.filter(Boolean).join(", "));
  element.classList.toggle("old", fade === 0);
  element.classList.toggle("chosen", chosen);
  setAttribute(element, "aria-selected", String(chosen));
  setAttribute(element, "aria-posinset", String(place + 1));
  setAttribute(element, "aria-setsize", String(size));
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function slide(element, from) {
  if (still.matches || document.hidden) return;
  element.animate([{ transform: `translateY(${from}px)` }, { transform: "none" }], {
    duration: MOVE_MS,
    easing: "ease-out",
  });
}

/** An <img> that follows a thumbnail's path, and hides where there is none. */
export class Picture {
  #image;
  #path = null;

  constructor(image) {
    this.#image = image;
    image.addEventListener("load", () => (image.hidden = false));
    image.addEventListener("error", () => (image.hidden = true));
  }

  async show(path) {
    if (path === this.#path) return;
    this.#path = path;
    if (path === null) {
      this.clear();
      return;
    }
    const url = await pictureUrl(path).catch(() => null);
    if (this.#path !== path) {
      release(url);
      return;
    }
    const old = this.#image.getAttribute("src");
    if (url === null) this.clear();
    else this.#image.src = url;
    release(old);
  }

  clear() {
    release(this.#image.getAttribute("src"));
    this.#path = null;
    this.#image.removeAttribute("src");
    this.#image.hidden = true;
  }
}

function release(url) {
  if (url?.startsWith("blob:")) URL.revokeObjectURL(url);
}
