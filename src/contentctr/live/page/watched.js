// How predictions stood up to what viewers then did: a line above the rooms, that opens.

import { getJson } from "./api.js";
import { count, setText, showScore } from "./words.js";

const ASK_MS = 30_000;
const SPANS = { hour: "last hour", day: "last day" };
const $ = (id) => document.getElementById(id);

export class Watched {
  #askedAt = -Infinity;
  #told = "";

  /** Ask now and then while the page is seen; it is only shown once anything has come back. */
  async ask(info) {
    if (document.hidden || performance.now() < this.#askedAt + ASK_MS) return;
    this.#askedAt = performance.now();
    try {
      const { models } = await getJson("/v1/outcomes");
      this.#draw(models, info);
    } catch {
      // The stream of events tells that the connection is lost; here the last numbers stay.
    }
  }

  #draw(models, info) {
    const told = JSON.stringify(models);
    if (told === this.#told) return;
    this.#told = told;
    $("watched").hidden = models.length === 0;
    if (models.length === 0) return;
    const newest = models.at(-1); // the one that an outcome came back of last
    const [span, found] = newest.hour === null ? ["day", newest.day] : ["hour", newest.hour];
    setText($("watched-line"), `Of the ${SPANS[span]}: predicted ${showScore(found.predicted, info)}, `
      + `observed ${showScore(found.observed, info)}, in ${count(found.segments)} segments`);
    const rows = models.flatMap((model) => Object.keys(SPANS)
      .filter((name) => model[name] !== null)
      .map((name) => row([
        model.model_id || "unknown", SPANS[name], count(model[name].segments),
        showScore(model[name].predicted, info), showScore(model[name].observed, info),
        model[name].calibration_error.toFixed(4), model[name].log_loss.toFixed(4),
        model[name].tau === null ? "none yet" : model[name].tau.toFixed(3),
      ])));
    $("watched-rows").replaceChildren(...rows);
    $("watched-bins").replaceChildren(...found.bins.map((bin) => row([
      `${showScore(bin.low, info)} to ${showScore(bin.high, info)}`, count(bin.segments),
      showScore(bin.predicted, info), showScore(bin.observed, info),
    ])));
    setText($("watched-bins-name"), `By predicted ${info.target_name}, ${SPANS[span]}, model ${newest.model_id}`);
  }
}

function row(cells) {
  const made = document.createElement("tr");
  made.append(...cells.map((text) => {
    const cell = document.createElement("td");
    cell.textContent = text;
    return cell;
  }));
  return made;
}
