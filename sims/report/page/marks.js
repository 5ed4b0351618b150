"use strict";
// Shapes and colours: a tracker has a shape and a colour of its own, so neither has to be told by colour alone.

const SHAPES = [
  [], // a circle
  [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(scaled(0.86)),
  [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]],
  [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]],
  [[0, 1.2], [1.1, -0.8], [-1.1, -0.8]],
  [[-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4],
    [-1.2, 0.4], [-1.2, -0.4], [-0.4, -0.4]],
  [[0, -1.25], [1.19, -0.39], [0.73, 1.01], [-0.73, 1.01], [-1.19, -0.39]],
];

function scaled(factor) {
  return ([x, y]) => [x * factor, y * factor];
}

function outline(ctx, index, x, y, size) {
  const shape = SHAPES[index % SHAPES.length];
  ctx.beginPath();
  if (!shape.length) ctx.arc(x, y, size, 0, 2 * Math.PI);
  for (const [i, [dx, dy]] of shape.entries()) ctx[i ? "lineTo" : "moveTo"](x + dx * size, y + dy * size);
  ctx.closePath();
}

const colourOf = (tracker, label) => colours.series[(state.byLabel ? label : tracker.index) % colours.series.length];

// Those that are not pointed at step back.
const strength = (tracker) => (state.emphasis === null || state.emphasis === tracker.index ? 1 : 0.18);

// A picture of a canvas that is as sharp as the screen; gives its context and size in CSS pixels.
function fitted(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  ctx.clearRect(0, 0, width, height);
  return { ctx, width, height };
}

function font(ctx, size, weight = 400) {
  ctx.font = `${weight} ${size}px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif`;
}

// Round numbers that divide a range into about so many parts.
function ticks(low, high, parts) {
  const rough = (high - low) / Math.max(parts, 1);
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

function tickText(value, all) {
  const step = all.length > 1 ? all[1] - all[0] : Math.abs(value) || 1;
  return value.toFixed(Math.max(0, Math.min(6, -Math.floor(Math.log10(step) + 1e-9)))).replace(/^-(?=[0.]+$)/, "");
}

function halo(ctx, text, x, y, colour) {
  ctx.lineJoin = "round";
  ctx.lineWidth = 3;
  ctx.strokeStyle = colours.panel;
  ctx.strokeText(text, x, y);
  ctx.fillStyle = colour;
  ctx.fillText(text, x, y);
}
