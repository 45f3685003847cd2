// The chosen room: its numbers, curve, shares and comments.

import { changes, Curve } from "./curve.js";
import { Picture } from "./list.js";
import { clock, percent, setText, showScore, span } from "./words.js";

const $ = (id) => document.getElementById(id);

export class Detail {
  #curve = new Curve($("curve"), $("readout"), () => this.#redraw());
  #picture = new Picture($("picture"));
  #layer = $("layer-template").content.firstElementChild;
  #drawn = null;
  #id = null;
  #points = null;
  #models = [];
  #info = null;

  constructor() {
    $("table").addEventListener("toggle", () => this.#table());
  }

  focus() {
    $("title").focus();
  }

  draw(room, { rooms, size }) {
    const { info } = rooms;
    const label = info.simulated ? " (simulated)" : "";
    if (this.#id !== room.room_id) {
      this.#id = room.room_id;
      this.#picture.clear(); // the other room's
      $("room").scrollTop = 0;
    }
    setText($("title"), room.title || room.room_id);
    setText($("room-facts"), facts(room));
    setText($("score"), showScore(room.score, info));
    setText($("score-name"), `predicted ${info.target_name}${label}`);
    setText($("table-name"), `predicted ${info.target_name}${label}`);
    setText($("curve-name"), `Predicted ${info.target_name} over the room${label}`);
    setText($("rank"), room.ended || room.rank === null ? "-" : `${room.rank} of ${size}`);
    const fade = rooms.fade(room);
    const age = span(rooms.now - room.ended_at);
    setText($("age"), room.ended ? "-" : age + (fade === 1 ? "" : fade === 0 ? ", too old" : ", fading"));
    $("room-highlight").hidden = !room.highlight || room.ended;
    $("room-ended").hidden = !room.ended;
    this.#picture.show(room.thumbnail);
    if (this.#points !== room.curve) {
      [this.#points, this.#models, this.#info] = [room.curve, room.models ?? [], info];
      this.#redraw();
      this.#table();
    }
    if (this.#drawn !== room) {
      this.#drawn = room;
      comments(room.comments);
      this.#shares(room.shares, label);
    }
  }

  #redraw() {
    if (this.#points === null) return;
    this.#curve.draw(this.#points, this.#models, this.#info);
    const last = this.#points.at(-1);
    const best = this.#points.reduce((a, b) => (b.score > a.score ? b : a));
    const start = (point) => clock((point.index + this.#info.horizon) * this.#info.segment_seconds);
    const others = changes(this.#points, this.#models)
      .map(({ first, model }) => ` Model ${model} took over at ${start({ index: first })}.`)
      .join("");
    const marked = this.#points.filter((point) => point.highlight).length;
    setText(
      $("curve-text"),
      `${this.#points.length} ${this.#points.length === 1 ? "score" : "scores"}; the last is ` +
        `${showScore(last.score, this.#info)} at ${start(last)}, the highest ` +
        `${showScore(best.score, this.#info)} at ${start(best)}; ${marked} in highlights.${others}`,
    );
  }

  #table() {
    if (!$("table").open || this.#points === null) return;
    const { segment_seconds: seconds, horizon } = this.#info;
    $("rows").replaceChildren(
      ...this.#points.toReversed().map((point) => {
        const row = document.createElement("tr");
        const start = (point.index + horizon) * seconds;
        for (const text of [
          `${clock(start)} - ${clock(start + seconds)}`,
          showScore(point.score, this.#info),
          point.highlight ? "yes" : "",
        ]) {
          row.insertCell().textContent = text;
        }
        return row;
      }),
    );
  }

  #shares(shares, label) {
    $("shares").hidden = shares === null;
    if (shares === null) return;
    setText($("shares-name"), `What the model looked at${label}`);
    const same = JSON.stringify(shares.first) === JSON.stringify(shares.last);
    const layers = same ? [["Only layer", shares.last]] : [["Last layer", shares.last], ["First layer", shares.first]];
    while ($("layers").children.length > layers.length) $("layers").lastElementChild.remove();
    layers.forEach(([name, layer], k) => {
      const element = $("layers").children[k] ?? $("layers").appendChild(this.#layer.cloneNode(true));
      setText(element.querySelector("h4"), name);
      const bars = element.querySelectorAll(".stack i");
      const numbers = element.querySelectorAll("li b");
      ["visual", "text", "statistics", "sound", "words", "latent"].forEach((name, part) => {
        bars[part].style.width = `${(100 * layer[name]).toFixed(2)}%`;
        setText(numbers[part], percent(layer[name]));
        // A model without such a part looks at it with exactly 0.
        bars[part].hidden = numbers[part].parentElement.hidden = layer[name] === 0;
      });
    });
  }
}

function facts(room) {
  return [room.title ? room.room_id : "", room.streamer_id, `segment ${room.index}`].filter(Boolean).join(" · ");
}

/** The newest first; only if they differ, so that a text may be selected. */
function comments(texts) {
  const list = $("comments");
  const newest = texts.toReversed();
  $("no-comments").hidden = texts.length > 0;
  const shown = [...list.children].map((item) => item.textContent);
  if (shown.length === newest.length && newest.every((text, k) => text === shown[k])) return;
  list.replaceChildren(
    ...newest.map((text) => {
      const item = document.createElement("li");
      item.dir = "auto";
      item.textContent = text;
      return item;
    }),
  );
}
