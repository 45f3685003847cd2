"use strict";
// Numbers and times as text, and elements by their names.

const $ = (id) => document.getElementById(id);

const percentFormat = new Intl.NumberFormat("en", {
  style: "percent",
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});

/** Seconds from the start as m:ss or h:mm:ss. */
function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const two = (number) => String(number).padStart(2, "0");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours > 0 ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

const showScore = (score, isPercent) => (isPercent ? percentFormat.format(score) : score.toFixed(2));

/** Set an element's text, if it differs: what does not change is not laid out again. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The last place in a rising list whose value is at most `value`; -1 if there is none. */
function lastAtMost(values, value) {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function make(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
