// A room's curve as SVG: line, highlight bands, axes, and the point under the pointer.

import { clock, showScore } from "./words.js";

const HEIGHT = 260;
const MARGIN = { left: 46, right: 22, top: 14, bottom: 26 };
const FEWEST_SEGMENTS = 20;
const TIME_STEPS = [30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400];

/** The first of 1, 2, 2.5, 5 times a power of ten that is at least `value`. */
export function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((step) => step * power >= value * (1 - 1e-9)) * power;
}

function node(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The models that did not make the first of the points. */
export function changes(points, models) {
  return models.filter(({ first }) => first > points[0].index && first <= points.at(-1).index);
}

export class Curve {
  #svg;
  #readout;
  #points = [];
  #models = [];
  #info = { segment_seconds: 30, horizon: 0, target: "ctr" };
  #seconds = 30;
  #shift = 0;
  #pointed = null;

  constructor(svg, readout, onResize) {
    this.#svg = svg;
    this.#readout = readout;
    new ResizeObserver(onResize).observe(svg);
    svg.addEventListener("pointermove", (event) => this.#point(event));
    svg.addEventListener("pointerdown", (event) => this.#point(event));
    svg.addEventListener("pointerleave", () => this.#point(null));
  }

  /**
   * `points` by rising index; with a horizon the score of a segment stands at the next one.
   * `models`: the first segment of each model that made them.
   */
  draw(points, models, info) {
    [this.#points, this.#models, this.#info] = [points, models, info];
    [this.#seconds, this.#shift] = [info.segment_seconds, info.horizon];
    const width = Math.max(240, this.#svg.clientWidth);
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    if (points.length === 0) {
      this.#svg.replaceChildren();
      return;
    }
    const scale = this.#scale(width);
    this.#svg.replaceChildren(
      ...this.#bands(scale),
      ...this.#axes(scale, width),
      ...this.#line(scale),
      ...this.#changes(scale),
      ...this.#pointer(scale),
    );
  }

  #scale(width) {
    const first = this.#points[0].index + this.#shift;
    const last = this.#points.at(-1).index + this.#shift + 1;
    const segments = Math.max(last - first, FEWEST_SEGMENTS);
    const best = Math.max(...this.#points.map((point) => point.score));
    const step = roundUp(Math.max(best * 1.05, 0.001) / 5);
    const top = Math.min(step * Math.ceil((best * 1.05) / step), 1);
    const inner = { width: width - MARGIN.left - MARGIN.right, height: HEIGHT - MARGIN.top - MARGIN.bottom };
    return {
      first,
      segments,
      top,
      step,
      inner,
      x: (segment) => MARGIN.left + ((segment - first) / segments) * inner.width,
      y: (score) => MARGIN.top + (1 - score / top) * inner.height,
    };
  }

  /** Middle of the segment whose target a point predicts. */
  #middle(point) {
    return point.index + this.#shift + 0.5;
  }

  #bands({ x, inner }) {
    const runs = [];
    for (const { index, highlight } of this.#points) {
      if (!highlight) continue;
      const run = runs.at(-1);
      if (run !== undefined && run.end === index) run.end = index + 1;
      else runs.push({ start: index, end: index + 1 });
    }
    return runs.flatMap(({ start, end }) => {
      const left = x(start + this.#shift);
      const width = x(end + this.#shift) - left;
      const box = { x: left, width };
      return [
        node("rect", { ...box, y: MARGIN.top, height: inner.height, class: "band" }),
        node("rect", { ...box, y: MARGIN.top - 4, height: 4, class: "cap" }),
      ];
    });
  }

  #axes({ x, y, first, segments, top, step, inner }, width) {
    const made = [];
    for (let k = 0; k * step <= top * (1 + 1e-9); k += 1) {
      const at = y(k * step);
      made.push(node("line", { x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at, class: "grid" }));
      made.push(node("text", { x: MARGIN.left - 8, y: at + 4, class: "left" }, shortScore(k * step, step, this.#info)));
    }
    const most = Math.max(2, Math.floor(inner.width / 70));
    const span = segments * this.#seconds;
    const every = TIME_STEPS.find((s) => span / s <= most) ?? roundUp(span / most);
    for (let t = Math.ceil((first * this.#seconds) / every) * every; t <= (first + segments) * this.#seconds; t += every) {
      const at = x(t / this.#seconds);
      made.push(node("line", { x1: at, x2: at, y1: y(0), y2: y(0) + 4, class: "tick" }));
      made.push(node("text", { x: at, y: HEIGHT - 8, class: "below" }, clock(t)));
    }
    return made;
  }

  /** The line is broken where a segment has no score. */
  #line({ x, y }) {
    let path = "";
    let before = null;
    const alone = [];
    this.#points.forEach((point, k) => {
      const joined = before !== null && point.index === before + 1;
      path += `${joined ? "L" : "M"}${x(this.#middle(point)).toFixed(1)} ${y(point.score).toFixed(1)}`;
      if (!joined && this.#points[k + 1]?.index !== point.index + 1) alone.push(point);
      before = point.index;
    });
    const dot = (point, radius, name) =>
      node("circle", { cx: x(this.#middle(point)), cy: y(point.score), r: radius, class: name });
    return [
      node("path", { d: path, class: "line" }),
      ...alone.map((point) => dot(point, 2, "dot")),
      dot(this.#points.at(-1), 5, "dot last"),
    ];
  }

  /** Where another model took over. */
  #changes({ x, y }) {
    return changes(this.#points, this.#models).map(({ first, model }) => {
      const at = x(first + this.#shift);
      const line = node("line", { x1: at, x2: at, y1: MARGIN.top, y2: y(0), class: "change" });
      line.append(node("title", {}, `model ${model}`));
      return line;
    });
  }

  #pointer({ x, y }) {
    const point = this.#points.find(({ index }) => index === this.#pointed);
    if (point === undefined) {
      this.#readout.textContent = "";
      return [];
    }
    const start = (point.index + this.#shift) * this.#seconds;
    const several = changes(this.#points, this.#models).length > 0;
    const by = this.#models.findLast(({ first }) => first <= point.index)?.model;
    const mark = (point.highlight ? ", highlight" : "") + (several ? `, model ${by ?? "unknown"}` : "");
    this.#readout.textContent = `${clock(start)} - ${clock(start + this.#seconds)}: ${showScore(point.score, this.#info)}${mark}`;
    const at = x(this.#middle(point));
    return [
      node("line", { x1: at, x2: at, y1: MARGIN.top, y2: y(0), class: "pointer" }),
      node("circle", { cx: at, cy: y(point.score), r: 4, class: "dot" }),
    ];
  }

  #point(event) {
    this.#pointed = null;
    if (event !== null && this.#points.length > 0) {
      const box = this.#svg.getBoundingClientRect();
      const { first, segments, inner } = this.#scale(box.width);
      const wanted = first + ((event.clientX - box.left - MARGIN.left) / inner.width) * segments;
      const far = (point) => Math.abs(this.#middle(point) - wanted);
      this.#pointed = this.#points.reduce((a, b) => (far(b) < far(a) ? b : a)).index;
    }
    this.draw(this.#points, this.#models, this.#info);
  }
}

function shortScore(value, step, { target }) {
  const [unit, sign] = target === "ctr" ? [100, "%"] : [1, ""];
  const digits = String(Number((step * unit).toPrecision(6))).split(".")[1]?.length ?? 0;
  return `${(value * unit).toFixed(Math.min(digits, 4))}${sign}`;
}
