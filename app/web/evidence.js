// What an answer rests on: each cited passage's own sentences, the words that carry the answer
// marked in them; and of a refusal, what came nearest. A click opens the passage in its document.

import { headings, make, markedNodes, pageOf } from "./passage.js";

const LONGEST = 420; // characters of a sentence; of longer ones what stands around the marks
const AROUND = 160;
const BAR = /(?<!\\)\|/u;

const fileName = (path) => path.split("/").pop() || path;

// The list of what an answer cites. `open` is called with the number of a source.
export function evidenceList(label, cited, open) {
  const list = make("ul", "evidence");
  list.setAttribute("aria-label", label);
  list.append(...cited.map((source) => {
    const item = make("li");
    const button = make("button", "place");
    button.type = "button";
    button.title = "Open the passage in its document";
    button.append(make("span", "number", source.marker), placeOf(source));
    item.append(button, ...(source.evidence ?? []).map((each) => sentence(source.text, each)));
    item.addEventListener("click", (event) => {
      const selecting = !button.contains(event.target) && !getSelection().isCollapsed;
      if (!selecting) open(source.marker); // else somebody wants to copy
    });
    return item;
  }));
  return list;
}

// Where a source stands, in one line: its headings, its page, its file.
export function placeOf(source) {
  const place = make("span", "where");
  const path = headings(source);
  place.append(make("span", "title", path[0] ?? ""));
  for (const heading of path.slice(1)) {
    const step = make("span", "step", " › ");
    place.append(step, make("span", "heading", heading));
  }
  const file = [pageOf(source), fileName(source.document)].filter(Boolean).join(" · ");
  place.append(make("span", "file", ` ${file}`));
  return place;
}

function sentence(text, evidence) {
  const characters = Array.from(text);
  const quote = make("blockquote");
  const table = asTable(characters, evidence);
  if (table) {
    quote.append(table);
    return quote;
  }
  if (evidence.context) quote.append(make("p", "context", evidence.context));
  quote.append(...shortened(characters, evidence));
  return quote;
}

// A sentence, or of a long one what stands around its marks. Dots say that the text goes on.
function shortened(characters, { start, end, words }) {
  let [from, to] = [start, end];
  if (to - from > LONGEST) {
    const [first, last] = [words[0]?.start ?? start, words.at(-1)?.end ?? start];
    from = Math.max(start, Math.min(first - AROUND, end - LONGEST));
    to = Math.min(end, Math.max(from + LONGEST, Math.min(last + AROUND, from + 2 * LONGEST)));
  }
  const nodes = markedNodes(characters, from, to, words);
  if (from > start || /^\p{Ll}/u.test(characters[from])) nodes.unshift("… ");
  if (to < end || /[\p{L}\p{N},;]$/u.test(characters[to - 1])) nodes.push(" …");
  return nodes;
}

// A row of a table under the names of its columns; null where it is none, or they do not match.
function asTable(characters, { start, end, words, context }) {
  if (!BAR.test(context ?? "")) return null;
  const names = context.split(BAR).map((name) => name.trim());
  const cells = [];
  let from = start;
  for (let at = start; at <= end; at += 1) {
    if (at < end && (characters[at] !== "|" || characters[at - 1] === "\\")) continue;
    cells.push([from, at]);
    from = at + 1;
  }
  const blank = ([a, b]) => !characters.slice(a, b).join("").trim();
  if (cells.length > names.length && blank(cells.at(-1))) cells.pop();
  if (cells.length !== names.length) return null;
  const row = (tag, contents) => {
    const line = make("tr");
    line.append(...contents.map((nodes) => {
      const cell = make(tag);
      cell.append(...nodes);
      return cell;
    }));
    return line;
  };
  const box = make("div", "row");
  const table = make("table");
  table.append(row("th", names.map((name) => [name])),
    row("td", cells.map(([a, b]) => markedNodes(characters, a, b, words))));
  box.append(table);
  return box;
}
