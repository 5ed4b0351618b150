"use strict";
// Whose tracks are shown, what else is, and the table of means.

const LAYERS = [
  ["measurements", "Measurements", "m"],
  ["truth", "Truth", "t"],
  ["ellipses", "Ellipses", "e"],
  ["labels", "Labels", "l"],
  ["errors", "Misses", "x"],
];
const WAYS = [
  ["byLabel", "Colour by label", "c"],
  ["apart", "Side by side", "s"],
];
const rows = [];

function swatch(tracker) {
  const canvas = make("canvas", { class: "swatch", "aria-hidden": "true" });
  painters.push(() => {
    const { ctx, width, height } = fitted(canvas);
    ctx.fillStyle = colours.series[tracker.index % colours.series.length];
    outline(ctx, tracker.index, width / 2, height / 2, 5);
    ctx.fill();
  });
  return canvas;
}

function toggleTracker(index) {
  if (index >= replay.trackers.length) return;
  state.shown[index] = !state.shown[index];
  if (state.pinned?.tracker === index) state.pinned = null;
  state.hover = null;
  redraw();
}

function buildTrackers() {
  for (const tracker of replay.trackers) {
    const { index, name } = tracker;
    const now = make("span", { class: "number" }), count = make("span", { class: "number muted" });
    const key = index < 9 ? make("kbd", { text: index + 1, "aria-hidden": "true" }) : "";
    const button = make("button", { type: "button", class: "tracker", "data-tracker": index },
      swatch(tracker), make("span", { class: "name", text: name }), count, ...(scored ? [now] : []), key);
    button.addEventListener("click", () => toggleTracker(index));
    for (const [type, value] of [["pointerenter", index], ["pointerleave", null], ["focus", index], ["blur", null]])
      button.addEventListener(type, (event) => {
        if (event.pointerType === "touch" || (type === "focus" && !button.matches(":focus-visible"))) return;
        state.emphasis = state.shown[index] ? value : null;
        redraw();
      });
    rows.push({ button, now, count, tracker });
    element("trackers").append(make("li", {}, button));
  }
}

function paintTrackers() {
  for (const { button, now, count, tracker } of rows) {
    const error = tracker.errors?.[0][state.scan], n = tracker.scans[state.scan].length;
    button.setAttribute("aria-pressed", state.shown[tracker.index]);
    count.textContent = `${n} track${n === 1 ? "" : "s"}`;
    now.textContent = error === undefined ? "" : brief(error);
    const said = error === undefined ? "" : `, GOSPA ${brief(error)} ${replay.unit}`;
    button.setAttribute("aria-label", `${tracker.name}: ${count.textContent}${said} in this scan`);
  }
}

function buildSwitches() {
  const add = (place, text, key, read, change) => {
    const button = make("button", { type: "button", class: "switch", "aria-keyshortcuts": key, text, title: `key ${key}` });
    button.addEventListener("click", change);
    painters.push(() => button.setAttribute("aria-pressed", read()));
    element(place).append(button);
    return { key, change };
  };
  const there = { measurements: replay.measurements, truth: replay.truth, errors: scored };
  const made = LAYERS.filter(([name]) => there[name] ?? !(name in there)).map(([name, text, key]) =>
    add("layers", text, key, () => state.layers[name], () => {
      state.layers[name] = !state.layers[name];
      redraw();
    }));
  const several = replay.trackers.length > 1;
  return made.concat(WAYS.filter(([name]) => several || name !== "apart").map(([name, text, key]) =>
    add("layers", text, key, () => state[name], () => {
      state[name] = !state[name];
      state.hover = null;
      redraw();
    })));
}

function buildTable() {
  const table = element("means");
  element("means-section").hidden = !replay.headings.length;
  const head = make("tr", {}, make("th", { scope: "col", text: "tracker" }),
    ...replay.headings.map((text) => make("th", { scope: "col", text })));
  table.append(make("thead", {}, head), make("tbody", {}, ...replay.trackers.map((tracker) =>
    make("tr", {}, make("th", { scope: "row", text: tracker.name }), ...tracker.means.map((text) => make("td", { text }))))));
  element("metric").textContent = replay.metric;
}

function buildLegend() {
  const words = [
    replay.measurements && ["cross", "measurement"],
    replay.truth && ["ring", "true object"],
    ["solid", "track, 95 % ellipse"],
    ["hollow", "track not detected in this scan"],
    scored && ["dashed", "missed object"],
    scored && ["crossed", "false track"],
  ];
  for (const [kind, text] of words.filter(Boolean)) {
    const canvas = make("canvas", { class: "swatch", "aria-hidden": "true" });
    painters.push(() => paintKey(fitted(canvas), kind));
    element("legend").append(make("li", {}, canvas, text));
  }
}

function paintKey({ ctx, width, height }, kind) {
  const x = width / 2, y = height / 2, colour = colours.series[0];
  ctx.lineWidth = 1.5;
  ctx.strokeStyle = kind === "cross" ? colours.muted : kind === "ring" ? colours.ink : colour;
  ctx.fillStyle = colour;
  if (kind === "dashed") ctx.setLineDash([3, 3]);
  if (kind === "cross") {
    ctx.beginPath();
    ctx.moveTo(x - 3.2, y - 3.2);
    ctx.lineTo(x + 3.2, y + 3.2);
    ctx.moveTo(x - 3.2, y + 3.2);
    ctx.lineTo(x + 3.2, y - 3.2);
    return ctx.stroke();
  }
  outline(ctx, 0, x, y, kind === "ring" || kind === "dashed" ? 6.5 : 4.2);
  if (kind === "solid" || kind === "crossed") ctx.fill();
  else ctx.stroke();
  if (kind === "crossed") paintCross(ctx, x, y, 1);
}
