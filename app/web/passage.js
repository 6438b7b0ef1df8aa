// A passage with the stretches that an answer repeats marked, and what stands around it.
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

// The nodes of what /v1/sources says.
export function passageNodes({ text, quotes, before = "", after = "" }) {
  const nodes = marked(text, quotes.map((quote) => [quote.start, quote.end]));
  if (before) nodes.unshift(make("span", "around", before));
  if (after) nodes.push(make("span", "around", after));
  return nodes;
}

// The nodes of a passage as a chat answer carries it, with its quotes as texts.
export function quotedNodes(text, quotes) {
  const places = quotes.map((quote) => [text.indexOf(quote), quote.length])
    .filter(([start]) => start >= 0)
    .map(([start, length]) => {
      const from = Array.from(text.slice(0, start)).length;
      return [from, from + Array.from(text.slice(start, start + length)).length];
    });
  return marked(text, places);
}

function marked(text, places) {
  const characters = Array.from(text);
  const nodes = [];
  let at = 0;
  for (const [start, end] of places.toSorted((a, b) => a[0] - b[0])) {
    if (end <= at) continue;
    const from = Math.max(start, at);
    nodes.push(characters.slice(at, from).join(""));
    nodes.push(make("mark", "", characters.slice(from, end).join("")));
    at = end;
  }
  nodes.push(characters.slice(at).join(""));
  return nodes;
}
