// A passage with the words marked that carry an answer, and what stands around it.
// All text is set as text. Offsets count whole characters, as the service does.

export function make(tag, className = "", text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

export const STANDING = {
  stands: "",
  changed: "The document has changed since; this is the passage as the answer was shown it.",
  deleted: "The document is no longer in the store; this is the passage as the answer was shown it.",
};

// Where a source stands: its headings, outermost first, and its page.
export const headings = ({ title, section }) =>
  [title, ...section.filter((heading) => heading !== title)].filter(Boolean);
export const pageOf = ({ page }) => (page ? `page${page.includes("-") ? "s" : ""} ${page}` : "");

// The nodes of a source: the sentences that carry the answer stand out, their words are marked.
// `before` and `after` are what stands around it in its document.
export function passageNodes({ text, evidence = [], before = "", after = "" }) {
  const characters = Array.from(text);
  const nodes = [];
  let at = 0;
  for (const each of evidence) {
    nodes.push(characters.slice(at, each.start).join(""));
    const sentence = make("span", "sentence");
    sentence.append(...markedNodes(characters, each.start, each.end, each.words));
    nodes.push(sentence);
    at = each.end;
  }
  nodes.push(characters.slice(at).join(""));
  const passage = make("span", "passage");
  passage.append(...nodes);
  const around = [before, after].map((text) => (text ? make("span", "around", text) : ""));
  return [around[0], passage, around[1]];
}

// The nodes of a stretch of a text with the words marked that lie in it.
export function markedNodes(characters, start, end, words) {
  const nodes = [];
  let at = start;
  for (const word of words) {
    const [from, to] = [Math.max(word.start, at), Math.min(word.end, end)];
    if (to <= from) continue;
    nodes.push(characters.slice(at, from).join(""));
    nodes.push(make("mark", "", characters.slice(from, to).join("")));
    at = to;
  }
  nodes.push(characters.slice(at, end).join(""));
  return nodes.filter((node) => node !== "");
}
