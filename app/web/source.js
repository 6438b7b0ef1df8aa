// A source by itself: where a citation's link leads in a browser.

import { STANDING, headings, pageOf, passageNodes } from "./passage.js";
import { Refused, source } from "./service.js";

const $ = (id) => document.getElementById(id);

try {
  const view = await source(location.href);
  document.title = view.title;
  $("source-title").textContent = view.title;
  const path = headings(view).slice(1).join(" › ");
  $("source-section").textContent = [path, pageOf(view)].filter(Boolean).join(" · ");
  $("source-where").textContent = `${view.document}, characters ${view.start}–${view.end}`;
  $("source-standing").textContent = STANDING[view.standing];
  $("source-standing").hidden = !STANDING[view.standing];
  $("source-text").replaceChildren(...passageNodes(view));
  $("source-text").hidden = false;
  document.querySelector("mark, .sentence")?.scrollIntoView({ block: "center" });
} catch (error) {
  $("source-standing").textContent = error instanceof Refused ? error.message
    : "The service cannot be reached.";
}
