"use strict";
// Put together.

const help = element("help");

element("title").textContent = replay.title;
element("about").textContent = replay.about;
element("shown").textContent = replay.shown;
if (!replay.measurements) element("note").textContent = "The sensor does not tell positions, so no measurements are drawn.";

buildTrackers();
buildTransport();
buildTable();
buildLegend();
buildKeys(buildSwitches());

element("theme").addEventListener("click", toggleTheme);
element("help-open").addEventListener("click", () => help.showModal());
element("zoom-in").addEventListener("click", () => zoom(1.4));
element("zoom-out").addEventListener("click", () => zoom(1 / 1.4));
element("zoom-fit").addEventListener("click", () => {
  fit();
  redraw();
});

painters.push(paintStage, paintTip, paintCharts, paintTransport, paintTrackers);
document.addEventListener("themechange", () => {
  readColours();
  redraw();
});
new ResizeObserver(redraw).observe(stage);
new ResizeObserver(redraw).observe(charts);
redraw();
