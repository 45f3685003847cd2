// The page: which room is chosen, when to draw, and how the connection stands.

import { getJson, setKey } from "./api.js";
import { Connection } from "./connection.js";
import { Detail } from "./detail.js";
import { List } from "./list.js";
import { Rooms } from "./rooms.js";
import { Watched } from "./watched.js";
import { count, setText, span } from "./words.js";

const DRAW_MS = 250; // the order may change so often: more is not read anyway
const WHOLE_MS = 1000; // so often the chosen room's whole curve may be asked for
const $ = (id) => document.getElementById(id);
const wide = matchMedia("(min-width: 56rem)");

const rooms = new Rooms();
const list = new List({ onChoose: (id) => choose(id) });
const detail = new Detail();
const watched = new Watched();
const connection = new Connection(rooms, { onState: showState, onNews: () => draw() });

let state = { name: "connecting" };
let chosen = null;
let whole = null; // "room index" that the whole curve is known of
let wholeAt = 0;
let drawnAt = 0;
let waiting = false;

/** Draw soon: in an animation frame, and not more often than the eye can follow. */
function draw(now = false) {
  if (now) drawnAt = 0;
  if (waiting) return;
  waiting = true;
  setTimeout(() => requestAnimationFrame(() => {
    waiting = false;
    drawnAt = performance.now();
    drawAll();
  }), Math.max(0, drawnAt + DRAW_MS - performance.now()));
}

function drawAll() {
  drawState();
  if (!rooms.loaded) return;
  if (state.name === "live") watched.ask(rooms.info);
  const ranked = rooms.ranked();
  if (chosen === null && wide.matches && ranked.length > 0) {
    history.replaceState(null, "", `#/room/${ranked[0].room_id}`);
    readAddress();
  }
  const word = $("search").value.trim().toLowerCase();
  const found = word === "" ? ranked : ranked.filter((room) => matches(room, word));
  list.draw(found, { rooms, chosen });
  const label = rooms.info.simulated ? " (simulated)" : "";
  setText($("unit"), `predicted ${rooms.info.target_name}${label}`);
  $("simulated").hidden = !rooms.info.simulated;
  setText($("facts"), `${count(rooms.size)} ${rooms.size === 1 ? "room" : "rooms"}, best first · contentctr ${rooms.info.version} · model ${rooms.info.model}`);
  $("list").hidden = found.length === 0;
  $("blank").hidden = found.length > 0;
  setText($("blank"), rooms.size === 0
    ? "No live rooms. They appear here with their first scored segment."
    : `No room or streamer matches “${$("search").value.trim()}”.`);
  $("more").hidden = found.length <= 200;
  setText($("more"), `The first 200 of ${count(found.length)}; search for the others.`);
  drawRoom();
}

function matches(room, word) {
  return [room.room_id, room.streamer_id, room.title].some((text) => text.toLowerCase().includes(word));
}

function drawRoom() {
  const room = chosen === null ? null : rooms.room(chosen);
  document.body.classList.toggle("has-room", chosen !== null);
  $("room").hidden = room === null;
  $("choose").hidden = room !== null || (chosen === null && rooms.size === 0);
  setText($("choose"), chosen === null ? "Choose a room to see its curve." : `There is no live room ${chosen}.`);
  $("choose").classList.toggle("missing", chosen !== null);
  if (room === null) return;
  detail.draw(room, { rooms, size: rooms.size });
  if (!room.ended) fetchWhole(room);
}

/** Highlights of earlier points depend on the whole curve: the service says which they are. */
async function fetchWhole(room) {
  const wanted = `${room.room_id} ${room.index}`;
  if (wanted === whole || state.name !== "live") return;
  const sameRoom = whole?.startsWith(`${room.room_id} `);
  if (sameRoom && performance.now() < wholeAt + WHOLE_MS) {
    setTimeout(draw, WHOLE_MS);
    return;
  }
  [whole, wholeAt] = [wanted, performance.now()];
  try {
    rooms.detail(await getJson(`/v1/rooms/${room.room_id}`));
    draw();
  } catch {
    // Ended meanwhile, or the connection is lost: the stream of events tells.
    wholeAt = performance.now();
  }
}

function choose(id) {
  const address = `#/room/${id}`;
  if (location.hash === address) {
    detail.focus();
    return;
  }
  location.hash = address;
}

function readAddress() {
  const found = /^#\/room\/([A-Za-z0-9_][A-Za-z0-9_.:@=+-]{0,127})$/.exec(location.hash);
  chosen = found === null ? null : found[1];
}

function showState(next) {
  state = next;
  if (next.name === "key") askForKey();
  drawState();
  draw(true);
}

const STATES = { connecting: "Connecting", live: "Live", lost: "Connection lost", key: "Needs a key" };

function drawState() {
  $("state").dataset.state = state.name;
  setText($("state").querySelector("span"), STATES[state.name]);
  $("banner").hidden = state.name !== "lost";
  if (state.name !== "lost") return;
  const lost = rooms.loaded
    ? `Connection lost ${span((Date.now() - state.since) / 1000)} ago: these are the last known scores. `
    : `The service cannot be reached since ${span((Date.now() - state.since) / 1000)}. `;
  const next = state.until === null
    ? "Trying now."
    : `Trying again in ${span(Math.ceil((state.until - Date.now()) / 1000))}.`;
  setText($("banner-text"), lost + (state.reason === null ? "" : `It said: ${state.reason}. `) + next);
}

let asked = false;
function askForKey() {
  setText($("key-text"), asked ? "That key is not right." : "It is kept until this tab is closed.");
  if (!$("key").open) $("key").showModal();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey($("key-input").value);
  asked = true;
  $("key-input").value = "";
  $("key").close();
});
$("key").addEventListener("close", () => connection.retry());
$("retry").addEventListener("click", () => connection.retry());
$("search").addEventListener("input", () => draw(true));
$("search").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "Enter") return;
  event.preventDefault();
  list.focus();
});
$("skip").addEventListener("click", (event) => {
  event.preventDefault();
  list.focus();
});
$("list").addEventListener("scroll", () => draw(), { passive: true });
addEventListener("hashchange", () => {
  const before = chosen;
  readAddress();
  drawAll();
  if (chosen !== null) detail.focus();
  else if (before !== null) list.focus();
});
addEventListener("online", () => connection.retry());
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && state.name === "lost") connection.retry();
});
setInterval(draw, 1000); // ages, fading and the banner go on without news

readAddress();
connection.run();
