"use strict";
// Errors and numbers over time, one above the other on one axis of time, with a cursor to click or drag.

const charts = element("charts");
const CHART = { height: 74, left: 40, right: 10, top: 20, bottom: 8, axis: 22 };
const PARTS = ["GOSPA", "localisation", "missed", "false"];
const scored = replay.trackers.some((tracker) => tracker.errors);

const panels = (scored ? PARTS.map((name, part) => ({
  name: `${name} (${replay.unit})`,
  series: (tracker) => tracker.errors?.[part] ?? [],
})) : []).concat({
  name: replay.truth ? "number of tracks, and of objects" : "number of tracks",
  series: (tracker) => tracker.scans.map((tracks) => tracks.length),
  truth: replay.truth?.scans.map((objects) => objects.length),
});

// GOSPA and its parts are drawn to one scale: they are to be compared.
const most = (panel, trackers) => Math.max(1e-9, ...trackers.map((t) => max(panel.series(t))), max(panel.truth ?? []));
const max = (values) => values.reduce((a, b) => Math.max(a, b), 0);

const first = replay.time[0], last = replay.time[replay.count - 1];
const timeToX = (time, width) => CHART.left + ((time - first) / (last - first || 1)) * (width - CHART.left - CHART.right);

function paintCharts() {
  charts.style.height = `${panels.length * CHART.height + CHART.axis}px`;
  const { ctx, width } = fitted(charts), trackers = visible();
  const shared = scored ? Math.max(...panels.slice(0, 4).map((panel) => most(panel, trackers))) : 0;
  paintCursor(ctx, width);
  for (const [i, panel] of panels.entries())
    paintPanel(ctx, panel, i * CHART.height, width, scored && i < 4 ? shared : most(panel, trackers), trackers);
  paintTimes(ctx, width);
}

function paintPanel(ctx, panel, top, width, high, trackers) {
  const low = top + CHART.height - CHART.bottom, span = CHART.height - CHART.top - CHART.bottom;
  const toY = (value) => low - (value / (1.06 * high)) * span;
  font(ctx, 11);
  ctx.textAlign = "right";
  ctx.textBaseline = "middle";
  ctx.strokeStyle = colours.grid;
  ctx.lineWidth = 1;
  const values = ticks(0, high, 3);
  for (const value of values) {
    const y = Math.round(toY(value)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(CHART.left, y);
    ctx.lineTo(width - CHART.right, y);
    ctx.stroke();
    ctx.fillStyle = colours.muted;
    ctx.fillText(tickText(value, values), CHART.left - 7, y);
  }
  font(ctx, 12, 600);
  ctx.textAlign = "left";
  halo(ctx, panel.name, CHART.left, top + 10, colours.ink);
  if (panel.truth) paintLine(ctx, panel.truth, width, toY, colours.ink, 1, [4, 3]);
  for (const tracker of trackers) {
    ctx.globalAlpha = strength(tracker);
    paintLine(ctx, panel.series(tracker), width, toY, colours.series[tracker.index % colours.series.length], 1.6, []);
  }
  for (const tracker of trackers) {
    const values = panel.series(tracker);
    if (!values.length) continue;
    ctx.globalAlpha = strength(tracker);
    ctx.fillStyle = colours.series[tracker.index % colours.series.length];
    ctx.strokeStyle = colours.panel;
    ctx.lineWidth = 1;
    outline(ctx, tracker.index, timeToX(replay.time[state.scan], width), toY(values[state.scan]), 4);
    ctx.fill();
    ctx.stroke();
  }
  ctx.globalAlpha = 1;
}

function paintLine(ctx, values, width, toY, colour, thickness, dash) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = thickness;
  ctx.lineJoin = "round";
  ctx.setLineDash(dash);
  ctx.beginPath();
  for (const [k, value] of values.entries()) ctx[k ? "lineTo" : "moveTo"](timeToX(replay.time[k], width), toY(value));
  ctx.stroke();
  ctx.setLineDash([]);
}

function paintTimes(ctx, width) {
  const bottom = panels.length * CHART.height;
  font(ctx, 11);
  ctx.textBaseline = "middle";
  ctx.fillStyle = colours.muted;
  ctx.textAlign = "center";
  const times = ticks(first, last, Math.max(2, Math.round(width / 70)));
  for (const time of times) {
    const x = timeToX(time, width);
    if (x < width - 62) ctx.fillText(tickText(time, times), x, bottom + 6);
  }
  ctx.textAlign = "right";
  ctx.fillText("time (s)", width - CHART.right, bottom + 6);
}

function paintCursor(ctx, width) {
  const x = Math.round(timeToX(replay.time[state.scan], width)) + 0.5;
  ctx.strokeStyle = colours.ink;
  ctx.globalAlpha = 0.55;
  ctx.lineWidth = 1;
  ctx.beginPath();
  ctx.moveTo(x, CHART.top - 4);
  ctx.lineTo(x, panels.length * CHART.height - CHART.bottom);
  ctx.stroke();
  ctx.globalAlpha = 1;
}

function scanAt(x) {
  const share = (x - CHART.left) / (charts.clientWidth - CHART.left - CHART.right);
  const time = first + share * (last - first);
  let low = 0, high = replay.count - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (replay.time[middle] <= time) low = middle;
    else high = middle;
  }
  return time - replay.time[low] < replay.time[high] - time ? low : high;
}

charts.addEventListener("pointerdown", (event) => {
  charts.setPointerCapture(event.pointerId);
  goTo(scanAt(event.offsetX));
});
charts.addEventListener("pointermove", (event) => {
  if (charts.hasPointerCapture(event.pointerId)) goTo(scanAt(event.offsetX));
});
