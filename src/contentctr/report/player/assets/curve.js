"use strict";
// The curve as SVG: line, highlights, axes and the playhead; a click or drag on it moves the video.

const CURVE_HEIGHT = 172;
const MARGIN = { left: 42, right: 10, top: 22, bottom: 22 };
const TIME_STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];
const PART_COLOURS = ["visual", "text", "statistics", "sound", "latent"];

/** The first of 1, 2, 2.5, 5 times a power of ten that is at least `value`. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((step) => step * power >= value * (1 - 1e-9)) * power;
}

function svgNode(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Name of the colour of a part of the score; undefined where the curve has no such part. */
function partColour(data, part) {
  const place = Object.keys(data.curve.parts).indexOf(part);
  return place < 0 ? undefined : PART_COLOURS[place % PART_COLOURS.length];
}

class Curve {
  #slider = $("curve");
  #svg = this.#slider.querySelector("svg");
  #data;
  #onSeek;
  #shown = new Set();
  #now = 0;
  #pointed = null;
  #width = 0;
  #playhead;
  #pointer;
  #held = false;

  constructor(data, onSeek) {
    [this.#data, this.#onSeek] = [data, onSeek];
    this.#slider.setAttribute("aria-valuemax", String(Math.round(data.duration)));
    this.#parts();
    new ResizeObserver(() => this.#draw()).observe(this.#slider);
    this.#slider.addEventListener("pointerdown", (event) => this.#down(event));
    this.#slider.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      this.#slider.addEventListener(kind, () => (this.#held = false));
    }
    this.#slider.addEventListener("pointerleave", () => this.#point(null));
  }

  /** Move the playhead. */
  at(seconds) {
    this.#now = seconds;
    this.#place();
  }

  #time(event) {
    const inner = this.#width - MARGIN.left - MARGIN.right;
    const left = event.clientX - this.#svg.getBoundingClientRect().left - MARGIN.left;
    return Math.min(Math.max(left / inner, 0), 1) * this.#data.duration;
  }

  #down(event) {
    if (event.button !== 0) return;
    this.#held = true;
    this.#slider.setPointerCapture(event.pointerId);
    this.#onSeek(this.#time(event));
  }

  #move(event) {
    this.#point(this.#time(event));
    if (this.#held) this.#onSeek(this.#time(event));
  }

  /** A button for each part of the score, that shows its line. */
  #parts() {
    const names = Object.keys(this.#data.curve.parts);
    $("parts").replaceChildren(
      ...names.map((name) => {
        const button = make("button", "part", this.#data.parts[name]?.title ?? name);
        button.type = "button";
        button.title = this.#data.parts[name]?.text ?? "";
        button.dataset.colour = partColour(this.#data, name);
        button.setAttribute("aria-pressed", "false");
        button.addEventListener("click", () => {
          const shown = !this.#shown.delete(name) && this.#shown.add(name) && true;
          button.setAttribute("aria-pressed", String(shown));
          this.#draw();
        });
        return button;
      }),
    );
    $("parts").hidden = names.length === 0;
  }

  #x(seconds) {
    const inner = this.#width - MARGIN.left - MARGIN.right;
    return MARGIN.left + (seconds / this.#data.duration) * inner;
  }

  #draw() {
    this.#width = Math.max(200, this.#slider.clientWidth);
    this.#svg.setAttribute("viewBox", `0 0 ${this.#width} ${CURVE_HEIGHT}`);
    const { score, parts } = this.#data.curve;
    const best = Math.max(0, ...score.filter((value) => value !== null));
    const step = roundUp(Math.max(best * 1.02, 0.0001) / 4);
    const top = Math.min(step * Math.ceil((best * 1.02) / step), Math.max(1, best)) || 1;
    const height = CURVE_HEIGHT - MARGIN.top - MARGIN.bottom;
    const y = (value, whole = top) => MARGIN.top + (1 - Math.min(value / whole, 1)) * height;
    this.#playhead = svgNode("g", { class: "playhead" });
    this.#playhead.append(
      svgNode("line", { x1: 0, x2: 0, y1: MARGIN.top, y2: MARGIN.top + height }),
      svgNode("circle", { cx: 0, cy: MARGIN.top + height, r: 5 }),
    );
    this.#pointer = svgNode("line", { y1: MARGIN.top, y2: MARGIN.top + height, class: "pointer" });
    const names = Object.keys(parts);
    this.#svg.replaceChildren(
      ...this.#axes(y, top, step),
      ...this.#bands(height),
      ...this.#line(score, (value) => y(value), true),
      ...names
        .filter((name) => this.#shown.has(name))
        .flatMap((name) => this.#line(parts[name], (value) => y(value, 1), false, partColour(this.#data, name))),
      this.#pointer,
      this.#playhead,
    );
    this.#place();
  }

  #axes(y, top, step) {
    const made = [];
    for (let k = 0; k * step <= top * (1 + 1e-9); k += 1) {
      const at = y(k * step);
      made.push(svgNode("line", { x1: MARGIN.left, x2: this.#width - MARGIN.right, y1: at, y2: at, class: "grid" }));
      made.push(svgNode("text", { x: MARGIN.left - 7, y: at + 4, class: "left" }, this.#tick(k * step, step)));
    }
    const { duration } = this.#data;
    const most = Math.max(2, Math.floor(this.#width / 80));
    const every = TIME_STEPS.find((s) => duration / s <= most) ?? roundUp(duration / most);
    for (let t = 0; t <= duration; t += every) {
      const at = this.#x(t);
      if (t > 0 && at > this.#width - 24) break;
      made.push(svgNode("line", { x1: at, x2: at, y1: y(0), y2: y(0) + 4, class: "tick" }));
      made.push(svgNode("text", { x: at, y: CURVE_HEIGHT - 5, class: "below" }, clock(t)));
    }
    return made;
  }

  /** A score beside the axis, with as many digits as its steps need. */
  #tick(value, step) {
    const { percent } = this.#data.score;
    const unit = percent ? 100 : 1;
    const isWhole = (digits) => Math.abs(step * unit * 10 ** digits - Math.round(step * unit * 10 ** digits)) < 1e-6;
    const digits = [0, 1, 2, 3].find(isWhole) ?? 4;
    return `${(value * unit).toFixed(digits)}${percent ? "%" : ""}`;
  }

  #bands(height) {
    const named = [];
    return this.#data.highlights.flatMap(({ rank, start, end }) => {
      const x = this.#x(start);
      const box = { x, width: Math.max(2, this.#x(end) - x) };
      const middle = x + box.width / 2;
      const nodes = [
        svgNode("rect", { ...box, y: MARGIN.top, height, class: "band", "data-rank": rank }),
        svgNode("rect", { ...box, y: MARGIN.top - 3, height: 3, class: "cap" }),
      ];
      // Of ranks that would stand on each other the best one is shown.
      if (named.every((other) => Math.abs(other - middle) > 13)) {
        named.push(middle);
        nodes.push(svgNode("text", { x: middle, y: MARGIN.top - 8, class: "rank" }, String(rank)));
      }
      return nodes;
    });
  }

  /** Through the middles of the segments, and broken where there is no score. */
  #line(values, y, filled, colour) {
    const { start, end } = this.#data.curve;
    let [path, area, from, before] = ["", "", 0, null];
    const alone = [];
    const close = (x) => (area += area ? `L${x} ${y(0)}L${from} ${y(0)}Z` : "");
    values.forEach((value, k) => {
      if (value === null) return;
      const x = this.#x((start[k] + end[k]) / 2).toFixed(1);
      const joined = before === k - 1 && k > 0 && start[k] - end[k - 1] < 0.02;
      const gone = values[k + 1] === null || values[k + 1] === undefined || start[k + 1] - end[k] >= 0.02;
      path += `${joined ? "L" : "M"}${x} ${y(value).toFixed(1)}`;
      if (!joined) {
        from = x;
        area += `M${x} ${y(0)}`;
      }
      area += `L${x} ${y(value).toFixed(1)}`;
      if (gone) close(x);
      if (gone && !joined) alone.push([x, y(value)]);
      before = k;
    });
    const name = filled ? "line" : "line thin";
    const nodes = [svgNode("path", { d: path, class: name, ...(colour && { "data-colour": colour }) })];
    if (filled) nodes.unshift(svgNode("path", { d: area, class: "area" }));
    return [...nodes, ...alone.map(([cx, cy]) => svgNode("circle", { cx, cy, r: 2.5, class: "dot" }))];
  }

  #place() {
    if (this.#playhead === undefined) return;
    this.#playhead.setAttribute("transform", `translate(${this.#x(Math.min(this.#now, this.#data.duration)).toFixed(1)} 0)`);
    this.#slider.setAttribute("aria-valuenow", String(Math.round(this.#now)));
    this.#slider.setAttribute("aria-valuetext", this.#told(this.#now));
    this.#pointer.setAttribute("visibility", this.#pointed === null ? "hidden" : "visible");
    if (this.#pointed !== null) {
      const at = this.#x(this.#pointed).toFixed(1);
      this.#pointer.setAttribute("x1", at);
      this.#pointer.setAttribute("x2", at);
    }
  }

  #point(seconds) {
    this.#pointed = seconds;
    setText($("readout"), seconds === null ? "" : this.#told(seconds));
    this.#place();
  }

  /** A time and its score in words. */
  #told(seconds) {
    const { curve, score, highlights } = this.#data;
    const k = lastAtMost(curve.start, seconds);
    const value = k < 0 || seconds >= curve.end[k] + 0.02 ? null : curve.score[k];
    const inside = highlights.find(({ start, end }) => seconds >= start && seconds < end);
    const parts = [clock(seconds)];
    if (value !== null) parts.push(`${score.name} ${showScore(value, score.percent)}`);
    if (inside !== undefined) parts.push(`highlight ${inside.rank}`);
    return parts.join(", ");
  }
}
