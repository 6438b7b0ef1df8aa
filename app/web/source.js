// A source by itself: where a citation's link leads in a browser.

import { STANDING, passageNodes } from "./passage.js";
import { Refused, source } from "./service.js";

const $ = (id) => document.getElementById(id);

try {
  const view = await source(location.href);
  document.title = view.title;
  $("source-title").textContent = view.title;
  $("source-section").textContent = view.section.filter((s) => s !== view.title).join(" › ");
  $("source-where").textContent = `${view.document}, characters ${view.start}–${view.end}`;
  $("source-standing").textContent = STANDING[view.standing];
  $("source-standing").hidden = !STANDING[view.standing];
  $("source-text").replaceChildren(...passageNodes(view));
  $("source-text").hidden = false;
  document.querySelector("mark")?.scrollIntoView({ block: "center" });
} catch (error) {
  $("source-standing").textContent = error instanceof Refused ? error.message
    : "The service cannot be reached.";
}
