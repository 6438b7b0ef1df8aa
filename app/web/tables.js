// Tables of what the API lists, with the words that stand in them.

import { make } from "./passage.js";

export const when = (iso) => (iso ? new Date(iso).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" }) : "");

// Rows of cells, each a text or nodes; `empty` is said where there are none.
export function table(titles, rows, empty) {
  if (!rows.length) return make("p", "soft", empty);
  const head = make("tr");
  head.append(...titles.map((title) => make("th", "", title)));
  const top = make("thead");
  top.append(head);
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    for (const cell of row) {
      const td = make("td", typeof cell === "string" && cell.length > 60 ? "long" : "");
      td.append(...[cell ?? ""].flat());
      line.append(td);
    }
    body.append(line);
  }
  const whole = make("table");
  whole.append(top, body);
  const box = make("div", "scroll");
  box.tabIndex = 0; // wide tables are scrolled with the keyboard too
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", titles.join(", "));
  box.append(whole);
  return box;
}

export const tags = (names, kind = "") => names.map((name) => make("span", `tag ${kind}`, name));
