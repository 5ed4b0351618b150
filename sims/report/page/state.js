"use strict";
// What the reader sees and has chosen. Whoever changes it calls redraw(); every part draws itself from it.

const replay = decode(JSON.parse(document.getElementById("data").textContent));

const CROWD = 80; // tracks at once whose labels would hide each other
const crowd = Math.max(...replay.time.map((_, k) => replay.trackers.reduce((n, tracker) => n + tracker.scans[k].length, 0)));

const state = {
  scan: replay.count - 1, // the whole run, until it is played
  playing: false,
  rate: 10, // scans per second
  tail: Math.min(15, replay.count),
  shown: replay.trackers.map(() => true),
  layers: { measurements: true, truth: true, ellipses: true, labels: crowd <= CROWD, errors: true },
  byLabel: replay.trackers.length === 1, // colours
  apart: false, // a picture for each tracker
  emphasis: null, // index of the tracker whose name is pointed at
  hover: null, // what the pointer is on
  pinned: null, // {tracker, label} or {truth}, which is followed
};

const painters = [];
let asked = 0;

function redraw() {
  asked ||= requestAnimationFrame(() => {
    asked = 0;
    for (const paint of painters) paint();
  });
}

function goTo(scan) {
  state.scan = Math.max(0, Math.min(replay.count - 1, Math.round(scan)));
  redraw();
}

const visible = () => replay.trackers.filter((tracker) => state.shown[tracker.index]);
const element = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// Colours of the style sheet, read once for each theme.
let colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(`--${name}`).trim();
  colours = Object.fromEntries(["panel", "ink", "muted", "line", "grid"].map((name) => [name, get(name)]));
  colours.series = Array.from({ length: 8 }, (_, i) => get(`series-${i}`));
}
readColours();

// A number to about three digits, in words that stay as wide.
function brief(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

function decimals() {
  return Math.max(0, Math.min(3, Math.round(-Math.log10(replay.step)) - 1));
}
