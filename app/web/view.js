// How answers and sources look. All text is set as text; nothing that a document, a model or a
// person says becomes HTML.

import { STANDING, make, passageNodes, quotedNodes } from "./passage.js";
import { source as fetchSource } from "./service.js";

export { make };
export const $ = (id) => document.getElementById(id);

export function makeButton(text, className, act) {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}

const fileName = (path) => path.split("/").pop() || path;
export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// A question and the place of its answer at the end of the conversation.
export class Turn {
  constructor(question) {
    this.item = make("li", "turn");
    this.answer = make("article", "answer waiting");
    this.answer.setAttribute("aria-label", "Answer");
    this.text = make("p", "text");
    this.state = make("p", "state", "Searching the documents…");
    this.answer.append(this.text, this.state);
    this.item.append(make("h2", "question", question), this.answer);
    $("welcome").hidden = true;
    $("conversation").append(this.item);
    $("main").scrollTo({ top: $("main").scrollHeight });
  }

  waitFor(what) {
    this.state.textContent = what;
  }

  show(content) {
    following(() => {
      this.answer.className = "answer writing";
      this.text.textContent = content;
      this.state.textContent = "";
    });
  }

  // The whole answer, its citations and what it rests on.
  finish(content, event, annotations, actions) {
    following(() => {
      const sources = event.sources ?? [];
      this.answer.className = event.abstained ? "answer abstained" : "answer";
      this.state.textContent = event.abstained ? "Not answered by the documents" : "";
      this.text.replaceChildren(...withCitations(content, annotations, sources));
      this.answer.append(...sourceLists(sources, event.abstained), actions);
    });
  }

  end(kind, message, ...more) {
    following(() => {
      this.answer.className = `answer ${kind}`;
      this.state.textContent = message;
      this.answer.append(...more);
    });
  }
}

// Change the conversation; a reader who was at its end stays at its end.
export function following(change) {
  const main = $("main");
  const atEnd = main.scrollHeight - main.scrollTop - main.clientHeight < 80;
  change();
  if (atEnd) main.scrollTo({ top: main.scrollHeight });
}

// The text with a button in place of each citation's marker. Offsets count whole characters.
function withCitations(content, annotations, sources) {
  const characters = Array.from(content);
  const parts = [];
  let at = 0;
  for (const { url_citation: note } of annotations) {
    const number = Number(characters.slice(note.start_index + 1, note.end_index - 1).join(""));
    parts.push(characters.slice(at, note.start_index).join(""));
    const button = makeButton(String(number), "cite", () => openSource(sources, number));
    button.setAttribute("aria-label", `Source ${number}: ${note.title}`);
    button.title = note.title;
    parts.push(button);
    at = note.end_index;
  }
  parts.push(characters.slice(at).join(""));
  return parts;
}

function sourceLists(sources, abstained) {
  const cited = sources.filter((source) => source.cited);
  const others = sources.filter((source) => !source.cited);
  const lists = [];
  if (cited.length) lists.push(sourceList("Sources", cited, sources));
  if (others.length) {
    const more = make("details");
    const label = abstained ? `${count(others.length, "passage")} looked at`
      : `${count(others.length, "other passage")} read`;
    more.append(make("summary", "", label), sourceList(label, others, sources));
    lists.push(more);
  }
  return lists;
}

function sourceList(label, shown, all) {
  const list = make("ul", "sources");
  list.setAttribute("aria-label", label);
  for (const source of shown) {
    const open = makeButton("", "source", () => openSource(all, source.marker));
    open.append(make("span", "number", source.marker), make("span", "title", source.title),
      make("span", "where", fileName(source.document)));
    const item = make("li");
    item.append(open);
    list.append(item);
  }
  return list;
}

// The source's passage with the stretches that the answer repeats marked: at once as the answer
// carries it, then within what stands around it in the document.
async function openSource(sources, number) {
  const source = sources[number - 1];
  const passage = $("source-text");
  $("source-number").textContent =
    `Source ${number} of ${sources.length}${source.cited ? "" : ", not cited"}`;
  $("source-title").textContent = source.title;
  $("source-section").textContent = source.section.filter((s) => s !== source.title).join(" › ");
  $("source-where").textContent = `${source.document}, characters ${source.start}–${source.end}`;
  $("source-standing").hidden = true;
  passage.replaceChildren(...quotedNodes(source.text, source.quotes));
  $("source-previous").disabled = number === 1;
  $("source-next").disabled = number === sources.length;
  $("source-previous").onclick = () => openSource(sources, number - 1);
  $("source-next").onclick = () => openSource(sources, number + 1);
  passage.dataset.source = source.url;
  if (!$("source").open) $("source").showModal();
  $("source-title").focus();
  const view = await fetchSource(source.url).catch(() => null); // what is shown is right as it is
  if (!view || passage.dataset.source !== source.url) return;
  passage.replaceChildren(...passageNodes(view));
  $("source-standing").textContent = STANDING[view.standing];
  $("source-standing").hidden = !STANDING[view.standing];
  passage.querySelector("mark")?.scrollIntoView({ block: "center" });
}
