// What every page has at its top: where one can go from here, and the colours.

import { recall, remember } from "./memory.js";
import { make } from "./passage.js";

const PAGES = [
  ["/", "Chat"],
  ["/#documents", "Documents"],
  ["/registry", "Models and runs"],
  ["/monitoring", "Monitoring"],
  ["/docs", "API"],
];

const links = PAGES.map(([href, name]) => {
  const link = make("a", "", name);
  link.href = href;
  if (href === location.pathname) link.setAttribute("aria-current", "page");
  return link;
});
document.getElementById("pages").replaceChildren(...links);

function use(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  button.setAttribute("aria-pressed", String(dark));
}

const button = document.getElementById("theme");
button.addEventListener("click", () => {
  const theme = button.getAttribute("aria-pressed") === "true" ? "light" : "dark";
  use(theme);
  remember("local", "theme", theme);
});
use(recall("local", "theme"));
