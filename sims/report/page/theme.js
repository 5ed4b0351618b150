"use strict";
// Dark or light, as the system says until the reader chooses; set before anything is painted.
const systemTheme = matchMedia("(prefers-color-scheme: dark)");
let chosenTheme = null;

function applyTheme() {
  document.documentElement.dataset.theme = chosenTheme ?? (systemTheme.matches ? "dark" : "light");
  document.dispatchEvent(new Event("themechange"));
}

function toggleTheme() {
  chosenTheme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  applyTheme();
}

systemTheme.addEventListener("change", applyTheme);
applyTheme();
