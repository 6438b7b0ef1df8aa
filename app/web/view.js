// How questions, answers and their sources look. All text is set as text; nothing that a document,
// a model or a person says becomes HTML.

import { evidenceList, placeOf } from "./evidence.js";
import { STANDING, headings, make, pageOf, passageNodes } from "./passage.js";
import { source as fetchSource } from "./service.js";

export { make };
export const $ = (id) => document.getElementById(id);

export function makeButton(text, className, act) {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", act);
  return button;
}

export const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

// A button that asks once more before it does what cannot be undone. `label` says of what.
export function makeSureButton(text, label, act) {
  const say = (shown, named) => {
    button.textContent = shown;
    button.setAttribute("aria-label", named);
  };
  const ask = (words) => `Really ${words[0].toLowerCase()}${words.slice(1)}?`;
  const button = makeButton(text, "quiet", () => {
    if (button.textContent === text) {
      say(ask(text), ask(label));
      button.addEventListener("blur", () => say(text, label), { once: true });
    } else {
      act(button);
    }
  });
  say(text, label);
  return button;
}

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
  finish({ content, event, annotations }, actions) {
    following(() => {
      const sources = event.sources ?? [];
      this.answer.className = event.abstained ? "answer abstained" : "answer";
      this.state.textContent = event.abstained ? "Not answered by the documents" : "";
      this.text.replaceChildren(...withCitations(content, annotations, sources));
      this.answer.append(...rest(event, sources), actions);
    });
  }

  end(kind, message, content, ...more) {
    following(() => {
      this.answer.className = `answer ${kind}`;
      this.text.textContent = content;
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

// What an answer rests on, and, folded, whatever else was read for it.
function rest({ abstained, nearest }, sources) {
  const open = (number) => openSource(sources, number);
  const cited = sources.filter((source) => source.cited);
  const shown = abstained && nearest ? nearest.marker : 0;
  const others = sources.filter(({ cited, marker }) => !cited && marker !== shown);
  const parts = [];
  if (cited.length) parts.push(evidenceList("Sources", cited, open));
  if (shown) {
    const source = { ...sources[shown - 1], evidence: [nearest] };
    const label = "What came nearest in the documents";
    parts.push(make("h3", "label", label), evidenceList(label, [source], open));
  } else if (!abstained && !cited.length && sources.length) {
    parts.push(make("p", "notice", "This answer names no passage that it rests on."));
  }
  if (others.length) {
    const more = make("details");
    const label = `${count(others.length, cited.length || shown ? "other passage" : "passage")} read`;
    const list = make("ul", "sources");
    list.setAttribute("aria-label", label);
    list.append(...others.map((source) => {
      const button = makeButton("", "place", () => open(source.marker));
      button.append(make("span", "number", source.marker), placeOf(source));
      const item = make("li");
      item.append(button);
      return item;
    }));
    more.append(make("summary", "", label), list);
    parts.push(more);
  }
  return parts;
}

// The source's passage with the words marked that carry the answer: at once as the answer carries
// it, then within what stands around it in the document.
async function openSource(sources, number) {
  const source = sources[number - 1];
  const passage = $("source-text");
  const [title, ...path] = headings(source);
  $("source-number").textContent =
    `Source ${number} of ${sources.length}${source.cited ? "" : ", not cited"}`;
  $("source-title").textContent = title ?? "";
  $("source-section").textContent = [path.join(" › "), pageOf(source)].filter(Boolean).join(" · ");
  $("source-where").textContent = `${source.document}, characters ${source.start}–${source.end}`;
  $("source-link").href = pathOf(source.url);
  $("source-standing").hidden = true;
  passage.replaceChildren(...passageNodes(source));
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
  const seen = passage.querySelector("mark, .sentence") ?? passage.querySelector(".passage");
  seen.scrollIntoView({ block: "center" });
}

// The service's own links begin with the name that it was reached by, which is here.
function pathOf(url) {
  const { pathname, search } = new URL(url, location.href);
  return pathname + search;
}
