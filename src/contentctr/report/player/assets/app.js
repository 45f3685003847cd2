"use strict";
// Puts the page together: highlights, keys, and the tour of the highlights.

const data = JSON.parse($("data").textContent);
const byTime = [...data.highlights].sort((a, b) => a.start - b.start);
let tour = false;

const player = new Player(data, onTime);
const curve = new Curve(data, (seconds) => go(seconds));
const lines = new Lines(data, (seconds) => go(seconds, true));
const rows = new Map(data.highlights.map((highlight) => [highlight, highlightRow(highlight)]));

setText($("length"), clock(data.duration));
$("highlights").replaceChildren(...rows.values());
$("no-highlights").hidden = data.highlights.length > 0;
for (const id of ["before", "after", "tour"]) $(id).disabled = data.highlights.length === 0;
$("play").disabled = data.video === null;
$("before").addEventListener("click", () => step(-1));
$("after").addEventListener("click", () => step(1));
$("play").addEventListener("click", () => player.toggle());
$("tour").addEventListener("click", () => setTour(!tour));
$("help").addEventListener("click", () => $("keys").showModal());
document.addEventListener("keydown", onKey, { capture: true });
window.addEventListener("hashchange", fromAddress);
onTime(0);
fromAddress();

function onTime(seconds) {
  setText($("now"), clock(seconds));
  curve.at(seconds);
  lines.at(seconds);
  for (const [{ start, end }, row] of rows) {
    const inside = seconds >= start - 0.05 && seconds < end;
    if (inside === row.classList.contains("current")) continue;
    row.classList.toggle("current", inside);
    const button = row.querySelector(".go");
    if (inside) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  // A clip may end a moment before its highlight does.
  if (tour && (player.playing || player.ended)) tourOn(seconds + (player.ended ? 1 : 0));
}

/** Where the user wants to be; it ends the tour. */
function go(seconds, play = false) {
  setTour(false);
  player.seek(seconds, { play });
}

function play(highlight) {
  go(highlight.start, true);
  rows.get(highlight).scrollIntoView({ block: "nearest" });
}

/** The next highlight by time, or the one before: of one that has just begun, that before it. */
function step(by) {
  const { now } = player;
  const next =
    by > 0
      ? byTime.find(({ start }) => start > now + 0.25)
      : byTime.findLast(({ start }) => start < now - 2);
  if (next !== undefined) play(next);
}

function setTour(on) {
  if (tour === on) return;
  tour = on;
  $("tour").setAttribute("aria-pressed", String(on));
  if (on) player.seek(byTime[0].start, { play: true });
}

/** From the end of a highlight to the next one; the last one ends the tour. */
function tourOn(seconds) {
  const last = byTime.findLast(({ start }) => seconds >= start - 0.5);
  if (last === undefined || seconds < last.end) return;
  const next = byTime.find(({ start, end }) => start > last.start && end > seconds);
  if (next !== undefined) {
    player.seek(Math.max(next.start, seconds), { play: true });
    return;
  }
  player.pause();
  setTour(false);
}

function highlightRow(highlight) {
  const row = $("highlight-template").content.firstElementChild.cloneNode(true);
  const find = (selector) => row.querySelector(selector);
  const { rank, start, end, score, reasons, picture, clip } = highlight;
  find(".rank").textContent = String(rank);
  find(".times").textContent = `${clock(Math.round(start))} – ${clock(Math.round(end))}`;
  find(".score").textContent = showScore(score, data.score.percent);
  find(".score").title = data.score.name;
  const length = `${Math.round(end - start)} seconds`;
  find(".go").setAttribute(
    "aria-label",
    `Play highlight ${rank}, from ${clock(Math.round(start))}, ${length}, ${data.score.name} ${showScore(score, data.score.percent)}`,
  );
  find(".go").addEventListener("click", () => play(highlight));
  if (picture) {
    find("img").src = picture;
    find("img").hidden = false;
  }
  find(".reasons").replaceChildren(
    ...reasons.map(({ part, text }) => {
      const reason = make("li", "", text || part);
      reason.dir = "auto";
      const colour = partColour(data, part);
      if (colour) reason.dataset.colour = colour; // as its line on the curve
      return reason;
    }),
  );
  find(".reasons").hidden = reasons.length === 0;
  find(".clip").hidden = !clip;
  if (clip) {
    find(".clip").href = clip;
    find(".clip").setAttribute("aria-label", `Clip of highlight ${rank}`);
  }
  return row;
}

function onKey(event) {
  const { key, target } = event;
  if (event.ctrlKey || event.altKey || event.metaKey || $("keys").open) return;
  if (target.matches("input[type=search]")) {
    if (key === "Escape") target.blur();
    return;
  }
  const pressed = target.closest("button, a, summary, input, label") !== null;
  if (pressed && (key === " " || key === "Enter")) return; // that one's own key
  const inLines = target.closest("#lines") !== null;
  const seconds = event.shiftKey ? 30 : 5;
  const onCurve = target.id === "curve";
  const actions = {
    " ": () => player.toggle(),
    k: () => player.toggle(),
    n: () => step(1),
    p: () => step(-1),
    h: () => data.highlights.length > 0 && setTour(!tour),
    m: () => player.mute(),
    f: () => player.fullScreen(),
    "/": () => $("find").focus(),
    "?": () => $("keys").showModal(),
    ArrowLeft: () => go(player.now - seconds),
    ArrowRight: () => go(player.now + seconds),
    ...(onCurve && {
      ArrowDown: () => go(player.now - seconds),
      ArrowUp: () => go(player.now + seconds),
      PageDown: () => go(player.now - 60),
      PageUp: () => go(player.now + 60),
      Home: () => go(0),
      End: () => go(data.duration),
    }),
  };
  const wanted = data.highlights.find(({ rank }) => String(rank) === key);
  const action = wanted !== undefined ? () => play(wanted) : actions[key.length === 1 ? key.toLowerCase() : key];
  if (action === undefined || (inLines && key === " ")) return;
  event.preventDefault();
  event.stopPropagation();
  action();
}

/** A link such as index.html#t=90 begins there. */
function fromAddress() {
  const found = /^#t=(\d+(\.\d+)?)$/.exec(location.hash);
  if (found !== null) go(Number(found[1]));
}
