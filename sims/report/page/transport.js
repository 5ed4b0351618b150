"use strict";
// Playing, stepping and the keys.

const slider = element("scan");
const RATES = [1, 2, 5, 10, 20, 50, 100, 200];
let clock = null;

function play(on = !state.playing) {
  if (on && state.scan === replay.count - 1) state.scan = 0;
  state.playing = on;
  clock = null;
  if (on) requestAnimationFrame(advance);
  redraw();
}

function advance(now) {
  if (!state.playing) return;
  clock ??= now;
  const steps = Math.floor(((now - clock) * state.rate) / 1000);
  if (steps > 0) {
    clock += (steps * 1000) / state.rate;
    goTo(state.scan + steps);
    if (state.scan === replay.count - 1) state.playing = false;
  }
  if (state.playing) requestAnimationFrame(advance);
}

function step(scans) {
  state.playing = false;
  goTo(state.scan + scans);
}

function paintTransport() {
  const time = replay.time[state.scan], all = ticks(first, last, 8);
  const text = `${time.toFixed(Math.max(1, tickText(time, all).split(".")[1]?.length ?? 0))} s`;
  slider.value = state.scan;
  slider.style.setProperty("--share", `${(100 * state.scan) / Math.max(replay.count - 1, 1)}%`);
  slider.setAttribute("aria-valuetext", `scan ${state.scan + 1} of ${replay.count}, ${text}`);
  element("time").textContent = text;
  element("count").textContent = `scan ${state.scan + 1} / ${replay.count}`;
  const button = element("play");
  button.dataset.playing = state.playing;
  button.setAttribute("aria-label", state.playing ? "Pause" : "Play");
  element("rate").value = state.rate;
  element("tail").value = state.tail;
}

function changeRate(by) {
  state.rate = RATES[Math.max(0, Math.min(RATES.length - 1, RATES.indexOf(state.rate) + by))];
  redraw();
}

function buildTransport() {
  slider.max = replay.count - 1;
  slider.addEventListener("input", () => {
    state.playing = false;
    goTo(Number(slider.value));
  });
  element("play").addEventListener("click", () => play());
  element("back").addEventListener("click", () => step(-1));
  element("forward").addEventListener("click", () => step(1));
  const rate = element("rate");
  rate.append(...RATES.map((value) => make("option", { value, text: `${value} scans/s` })));
  rate.addEventListener("change", () => {
    state.rate = Number(rate.value);
    redraw();
  });
  state.rate = RATES.find((value) => replay.count / value <= 15) ?? RATES.at(-1); // a run takes seconds, not minutes
  const tail = element("tail");
  tail.max = Math.min(replay.count, 100);
  tail.addEventListener("input", () => {
    state.tail = Number(tail.value);
    redraw();
  });
}

function buildKeys(switches) {
  const actions = {
    " ": () => play(), k: () => play(),
    ArrowLeft: (event) => step(event.shiftKey ? -10 : -1), ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
    Home: () => step(-replay.count), End: () => step(replay.count),
    "[": () => changeRate(-1), "]": () => changeRate(1),
    "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: () => { fit(); redraw(); },
    d: toggleTheme, "?": () => help.open ? help.close() : help.showModal(),
    Escape: () => { state.pinned = null; redraw(); },
  };
  for (const { key, change } of switches) actions[key] = change;
  for (let i = 0; i < 9; i++) actions[i + 1] = () => toggleTracker(i);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || (help.open && event.key !== "?")) return;
    const own = event.target.matches("input, select") && /^(Arrow|Home|End|Page)/.test(event.key);
    const pressed = event.target.matches("button, select") && event.key === " ";
    const action = actions[event.key] ?? actions[event.key.toLowerCase()];
    if (own || pressed || !action) return;
    event.preventDefault();
    action(event);
  });
}
