"use strict";
// Pan, zoom, and what the pointer is on.

const REACH = 16; // CSS pixels within which something is pointed at
const tip = element("tip");
const touches = new Map();
let moved = 0;

function cellAt(px, py) {
  return cells().find((c) => px >= c.x && px < c.x + c.width && py >= c.y && py < c.y + c.height) ?? cells()[0];
}

function zoom(factor, px, py) {
  const cell = px === undefined ? cells()[0] : cellAt(px, py);
  px ??= cell.x + cell.width / 2;
  py ??= cell.y + cell.height / 2;
  const before = toWorld(cell, px, py);
  const least = 0.2 * Math.min(stage.clientWidth / boxWidth(), stage.clientHeight / boxHeight());
  view.scale = Math.max(least, Math.min(view.scale * factor, 60 / replay.step));
  const after = toWorld(cell, px, py);
  view.x += before.x - after.x;
  view.y += before.y - after.y;
  view.fitted = false;
  redraw();
}

function pan(dx, dy) {
  view.x -= dx / view.scale;
  view.y += (dy / view.scale) * flip;
  view.fitted = false;
  redraw();
}

// The nearest track, or else true object, or else measurement of the scan.
function under(px, py) {
  const cell = cellAt(px, py);
  const nearest = (objects) => {
    let best = null, least = REACH;
    for (const object of objects) {
      const [x, y] = toScreen(cell, object), d = Math.hypot(x - px, y - py);
      if (d < least) [best, least] = [object, d];
    }
    return best && { object: best, d: least };
  };
  const tracks = cell.trackers.map((tracker) => ({ tracker, hit: nearest(tracker.scans[state.scan]) })).filter((c) => c.hit);
  if (tracks.length) {
    const { tracker, hit } = tracks.reduce((a, b) => (b.hit.d < a.hit.d ? b : a));
    return { tracker: tracker.index, label: hit.object.label };
  }
  const truth = state.layers.truth && replay.truth && nearest(replay.truth.scans[state.scan]);
  if (truth) return { label: truth.object.label };
  const z = state.layers.measurements && replay.measurements && nearest(replay.measurements[state.scan]);
  return z ? { measurement: z.object } : null;
}

function position(object) {
  const [x, y] = [object.x, object.y].map((value) => value.toFixed(decimals()));
  return `${replay.axes[0]} ${x}, ${replay.axes[1]} ${y} ${replay.unit}`;
}

// Lines about what is pointed at; null if it is not there in this scan.
function about(focus) {
  if (focus.measurement) return ["measurement", position(focus.measurement)];
  const source = focus.tracker === undefined ? replay.truth : replay.trackers[focus.tracker];
  const now = source.scans[state.scan].find((object) => object.label === focus.label);
  const name = source.labels[focus.label];
  if (focus.tracker === undefined) return now ? [`object ${name}`, position(now)] : null;
  if (!now) return null;
  const lines = [`${source.name} · label ${name}`, position(now)];
  if (now.speed !== null) lines.push(`speed ${brief(now.speed)} ${replay.unit}/s`);
  lines.push(`existence ${now.existence.toFixed(3)}`, `95 % within ${brief(now.major)} × ${brief(now.minor)} ${replay.unit}`);
  if (!now.seen) lines.push("not detected in this scan");
  if (source.errors) {
    const match = replay.truth.scans[state.scan].find((object) => object.label === now.match);
    lines.push(match ? `${brief(Math.hypot(match.x - now.x, match.y - now.y))} ${replay.unit} from object ${replay.truth.labels[now.match]}` : "false: no object is near");
  }
  return lines;
}

function paintTip() {
  const focus = state.hover ?? state.pinned, lines = focus && about(focus);
  tip.hidden = !lines;
  if (!lines) return;
  tip.replaceChildren(...lines.map((text, i) => make(i ? "span" : "strong", { text })));
  const source = focus.measurement ? null : focus.tracker === undefined ? replay.truth : replay.trackers[focus.tracker];
  const now = focus.measurement ?? source.scans[state.scan].find((object) => object.label === focus.label);
  const cell = focus.cell ?? cells().find((c) => focus.tracker === undefined || c.trackers[0]?.index === focus.tracker) ?? cells()[0];
  const [x, y] = toScreen(cell, now);
  const left = x + 18 + tip.offsetWidth > stage.clientWidth ? x - 18 - tip.offsetWidth : x + 18;
  tip.style.left = `${Math.max(6, Math.min(left, stage.clientWidth - tip.offsetWidth - 6))}px`;
  tip.style.top = `${Math.max(6, Math.min(y - 12, stage.clientHeight - tip.offsetHeight - 6))}px`;
}

const same = (a, b) => a?.tracker === b?.tracker && a?.label === b?.label && a?.measurement === b?.measurement;

function pointAt(event) {
  const found = under(event.offsetX, event.offsetY);
  if (found) found.cell = cellAt(event.offsetX, event.offsetY);
  if (!same(found, state.hover)) {
    state.hover = found;
    stage.style.cursor = found ? "pointer" : "";
    redraw();
  }
}

stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  touches.set(event.pointerId, [event.offsetX, event.offsetY]);
  moved = 0;
});

stage.addEventListener("pointermove", (event) => {
  const before = touches.get(event.pointerId);
  if (!before) return pointAt(event);
  const now = [event.offsetX, event.offsetY];
  const other = [...touches].find(([id]) => id !== event.pointerId)?.[1];
  if (other) {
    const distance = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
    zoom(distance(now) / Math.max(distance(before), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  } else pan(now[0] - before[0], now[1] - before[1]);
  moved += Math.hypot(now[0] - before[0], now[1] - before[1]);
  touches.set(event.pointerId, now);
});

stage.addEventListener("pointerup", (event) => {
  if (moved < 5 && touches.size === 1) {
    const found = under(event.offsetX, event.offsetY);
    state.pinned = found && !found.measurement && !same(found, state.pinned) ? found : null;
    redraw();
  }
  touches.delete(event.pointerId);
});

stage.addEventListener("pointercancel", (event) => touches.delete(event.pointerId));
stage.addEventListener("pointerleave", () => {
  state.hover = null;
  redraw();
});
stage.addEventListener("dblclick", () => {
  fit();
  redraw();
});
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0016)), event.offsetX, event.offsetY);
}, { passive: false });
