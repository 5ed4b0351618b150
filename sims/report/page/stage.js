"use strict";
// The plane: grid, measurements, truth and tracks of the scan, in one picture or in one for each tracker.

const stage = element("stage");
const view = { x: 0, y: 0, scale: 1, fitted: true }; // centre, and CSS pixels per unit
const TAIL_STEPS = 5; // shades of a fading tail
const MEMORY = 4; // scans for which measurements fade
const flip = replay.yDown ? -1 : 1;

// Where the pictures lie on the canvas, and whom they show.
function cells() {
  const width = stage.clientWidth, height = stage.clientHeight;
  const trackers = visible();
  if (!state.apart || trackers.length < 2) return [{ x: 0, y: 0, width, height, trackers }];
  const n = trackers.length;
  let best = null;
  for (let columns = 1; columns <= n; columns++) {
    const rows = Math.ceil(n / columns);
    const side = Math.min(width / columns / boxWidth(), height / rows / boxHeight());
    if (!best || side > best.side) best = { side, columns, rows };
  }
  const w = width / best.columns, h = height / best.rows;
  return trackers.map((tracker, i) => ({
    x: (i % best.columns) * w, y: Math.floor(i / best.columns) * h, width: w, height: h, trackers: [tracker],
  }));
}

const boxWidth = () => Math.max(replay.box[2] - replay.box[0], replay.step);
const boxHeight = () => Math.max(replay.box[3] - replay.box[1], replay.step);

function fit() {
  const { width, height } = cells()[0];
  view.x = (replay.box[0] + replay.box[2]) / 2;
  view.y = (replay.box[1] + replay.box[3]) / 2;
  view.scale = Math.min((width - 56) / boxWidth(), (height - 56) / boxHeight());
  view.fitted = true;
}

const toScreen = (cell, p) => [
  cell.x + cell.width / 2 + (p.x - view.x) * view.scale,
  cell.y + cell.height / 2 - (p.y - view.y) * view.scale * flip,
];
const toWorld = (cell, px, py) => ({
  x: view.x + (px - cell.x - cell.width / 2) / view.scale,
  y: view.y - ((py - cell.y - cell.height / 2) / view.scale) * flip,
});

function paintStage() {
  if (view.fitted) fit();
  const { ctx } = fitted(stage);
  for (const cell of cells()) {
    ctx.save();
    ctx.beginPath();
    ctx.rect(cell.x, cell.y, cell.width, cell.height);
    ctx.clip();
    paintGrid(ctx, cell);
    if (state.layers.measurements && replay.measurements) paintMeasurements(ctx, cell);
    if (state.layers.truth && replay.truth) paintTruth(ctx, cell);
    for (const tracker of cell.trackers) paintTracker(ctx, cell, tracker);
    paintFocus(ctx, cell);
    paintFrame(ctx, cell);
    ctx.restore();
  }
}

function paintGrid(ctx, cell) {
  const a = toWorld(cell, cell.x, cell.y), b = toWorld(cell, cell.x + cell.width, cell.y + cell.height);
  const parts = (pixels) => Math.max(2, Math.round(pixels / 95));
  const xs = ticks(a.x, b.x, parts(cell.width));
  const ys = ticks(Math.min(a.y, b.y), Math.max(a.y, b.y), parts(cell.height));
  ctx.strokeStyle = colours.grid;
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (const x of xs) {
    const px = Math.round(toScreen(cell, { x, y: 0 })[0]) + 0.5;
    ctx.moveTo(px, cell.y);
    ctx.lineTo(px, cell.y + cell.height);
  }
  for (const y of ys) {
    const py = Math.round(toScreen(cell, { x: 0, y })[1]) + 0.5;
    ctx.moveTo(cell.x, py);
    ctx.lineTo(cell.x + cell.width, py);
  }
  ctx.stroke();
  font(ctx, 11);
  ctx.textBaseline = "alphabetic";
  ctx.textAlign = "center";
  const bottom = cell.y + cell.height - 7, right = cell.x + cell.width;
  for (const x of xs) {
    const px = toScreen(cell, { x, y: 0 })[0];
    if (px > cell.x + 52 && px < right - 46) halo(ctx, tickText(x, xs), px, bottom, colours.muted);
  }
  ctx.textAlign = "right";
  halo(ctx, `${replay.axes[0]} (${replay.unit})`, right - 8, bottom, colours.muted);
  ctx.textAlign = "left";
  for (const y of ys) {
    const py = toScreen(cell, { x: 0, y })[1];
    if (py > cell.y + 40 && py < bottom - 16) halo(ctx, tickText(y, ys), cell.x + 7, py + 4, colours.muted);
  }
}

// In pictures apart each says whose it is; alone it says what the vertical axis is.
function paintFrame(ctx, cell) {
  const alone = !state.apart || visible().length < 2;
  ctx.textAlign = "left";
  ctx.textBaseline = "alphabetic";
  if (alone) {
    font(ctx, 11);
    halo(ctx, `${replay.axes[1]} (${replay.unit})`, cell.x + 7, cell.y + 18, colours.muted);
    return;
  }
  const [tracker] = cell.trackers;
  ctx.strokeStyle = colours.line;
  ctx.lineWidth = 1;
  ctx.strokeRect(cell.x + 0.5, cell.y + 0.5, cell.width, cell.height);
  font(ctx, 13, 650);
  halo(ctx, tracker.name, cell.x + 28, cell.y + 22, colours.ink);
  ctx.fillStyle = colours.series[tracker.index % colours.series.length];
  outline(ctx, tracker.index, cell.x + 16, cell.y + 17, 5);
  ctx.fill();
}

function paintMeasurements(ctx, cell) {
  ctx.strokeStyle = colours.muted;
  ctx.lineWidth = 1.2;
  for (let age = Math.min(MEMORY, state.scan); age >= 0; age--) {
    const size = age ? 2 : 3.2;
    ctx.globalAlpha = age ? 0.34 * (1 - age / (MEMORY + 1)) : 0.95;
    ctx.beginPath();
    for (const z of replay.measurements[state.scan - age]) {
      const [x, y] = toScreen(cell, z);
      ctx.moveTo(x - size, y - size);
      ctx.lineTo(x + size, y + size);
      ctx.moveTo(x - size, y + size);
      ctx.lineTo(x + size, y - size);
    }
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
}

function paintTruth(ctx, cell) {
  const objects = replay.truth.scans[state.scan];
  paintTails(ctx, cell, replay.truth.paths, objects, () => colours.ink, 1.2, 0.55);
  ctx.strokeStyle = colours.ink;
  ctx.lineWidth = 1.4;
  for (const object of objects) {
    const [x, y] = toScreen(cell, object);
    ctx.beginPath();
    ctx.arc(x, y, 8, 0, 2 * Math.PI);
    ctx.stroke();
  }
}

function paintTracker(ctx, cell, tracker) {
  const tracks = tracker.scans[state.scan], alpha = strength(tracker);
  paintTails(ctx, cell, tracker.paths, tracks, (t) => colourOf(tracker, t.label), 2.2, alpha);
  for (const track of tracks) {
    const [x, y] = toScreen(cell, track), colour = colourOf(tracker, track.label);
    if (state.layers.ellipses) paintEllipse(ctx, track, x, y, colour, alpha, 0.16 / cell.trackers.length);
    ctx.globalAlpha = alpha * (0.35 + 0.65 * track.existence);
    ctx.fillStyle = track.seen ? colour : colours.panel;
    ctx.strokeStyle = track.seen ? colours.panel : colour;
    ctx.lineWidth = track.seen ? 1 : 1.8;
    outline(ctx, tracker.index, x, y, 4.6);
    ctx.fill();
    ctx.stroke();
    if (state.layers.errors && tracker.errors && track.match < 0) paintCross(ctx, x, y, alpha);
  }
  if (state.layers.errors && tracker.errors && replay.truth) paintMissed(ctx, cell, tracker, tracks, alpha);
  if (state.layers.labels) paintLabels(ctx, cell, tracker, tracks, alpha);
  ctx.globalAlpha = 1;
}

function paintEllipse(ctx, track, x, y, colour, alpha, fill) {
  ctx.beginPath();
  const rx = Math.max(track.major * view.scale, 0.5), ry = Math.max(track.minor * view.scale, 0.5);
  ctx.ellipse(x, y, rx, ry, -track.angle * flip, 0, 2 * Math.PI);
  ctx.fillStyle = ctx.strokeStyle = colour;
  ctx.lineWidth = 1.2;
  ctx.globalAlpha = alpha * fill;
  ctx.fill();
  ctx.globalAlpha = alpha * 0.85;
  ctx.stroke();
}

function paintCross(ctx, x, y, alpha) {
  ctx.globalAlpha = alpha;
  ctx.strokeStyle = colours.ink;
  ctx.lineWidth = 1.8;
  ctx.beginPath();
  ctx.moveTo(x - 6.5, y - 6.5);
  ctx.lineTo(x + 6.5, y + 6.5);
  ctx.moveTo(x - 6.5, y + 6.5);
  ctx.lineTo(x + 6.5, y - 6.5);
  ctx.stroke();
}

// A dashed ring about what a tracker misses, wider for later trackers so that all can be seen.
function paintMissed(ctx, cell, tracker, tracks, alpha) {
  const found = new Set(tracks.map((track) => track.match));
  ctx.globalAlpha = alpha;
  ctx.strokeStyle = colours.series[tracker.index % colours.series.length];
  ctx.lineWidth = 1.8;
  ctx.setLineDash([3, 3]);
  for (const object of replay.truth.scans[state.scan]) {
    if (found.has(object.label)) continue;
    const [x, y] = toScreen(cell, object);
    ctx.beginPath();
    ctx.arc(x, y, 12 + (cell.trackers.length > 1 ? 3 * tracker.index : 0), 0, 2 * Math.PI);
    ctx.stroke();
  }
  ctx.setLineDash([]);
}

// Trackers put their labels on different sides, so that those of one object can all be read.
const SIDES = [[11, -8, "left"], [11, 15, "left"], [-11, 15, "right"], [-11, -8, "right"], [0, -16, "center"], [0, 24, "center"]];

function paintLabels(ctx, cell, tracker, tracks, alpha) {
  const several = cell.trackers.length > 1;
  const [dx, dy, side] = SIDES[several ? cell.trackers.indexOf(tracker) % SIDES.length : 0];
  font(ctx, 11, 600);
  ctx.textAlign = side;
  ctx.textBaseline = "alphabetic";
  ctx.globalAlpha = alpha;
  for (const track of tracks) {
    const [x, y] = toScreen(cell, track);
    halo(ctx, tracker.labels[track.label], x + dx, y + dy, colourOf(tracker, track.label));
  }
}

// The last `state.tail` scans of each path, in shades; segments of one shade and colour are one stroke.
function paintTails(ctx, cell, paths, objects, colour, width, alpha) {
  if (!state.tail) return;
  const strokes = new Map();
  for (const object of objects) {
    const path = paths[object.label], hue = colour(object);
    for (let i = object.at; i > 0 && state.scan - path[i - 1].k <= state.tail; i--) {
      const age = Math.floor((TAIL_STEPS * (state.scan - path[i].k)) / (state.tail + 1));
      const key = `${age}${hue}`;
      if (!strokes.has(key)) strokes.set(key, { age, hue, segments: new Path2D() });
      const { segments } = strokes.get(key);
      segments.moveTo(...toScreen(cell, path[i - 1]));
      segments.lineTo(...toScreen(cell, path[i]));
    }
  }
  ctx.lineWidth = width;
  ctx.lineCap = "round";
  for (const { age, hue, segments } of strokes.values()) {
    ctx.globalAlpha = alpha * (0.85 - (0.7 * age) / TAIL_STEPS);
    ctx.strokeStyle = hue;
    ctx.stroke(segments);
  }
  ctx.lineCap = "butt";
  ctx.globalAlpha = 1;
}

// What is pinned, or pointed at: its whole path and a ring.
function paintFocus(ctx, cell) {
  for (const focus of [state.pinned, state.hover]) {
    if (!focus || focus.measurement || (focus.tracker !== undefined && !cell.trackers.includes(replay.trackers[focus.tracker])))
      continue;
    const source = focus.tracker === undefined ? replay.truth : replay.trackers[focus.tracker];
    const colour = focus.tracker === undefined ? colours.ink : colourOf(source, focus.label);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.4;
    ctx.beginPath();
    for (const [i, p] of source.paths[focus.label].entries()) ctx[i ? "lineTo" : "moveTo"](...toScreen(cell, p));
    ctx.stroke();
    const now = source.scans[state.scan].find((object) => object.label === focus.label);
    if (!now) continue;
    ctx.lineWidth = 2.4;
    ctx.beginPath();
    ctx.arc(...toScreen(cell, now), 11, 0, 2 * Math.PI);
    ctx.stroke();
  }
}
