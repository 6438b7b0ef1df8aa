// The chat page: one question at a time, the answer streamed in.

import { all, fresh, get, isOne, keep, titleOf } from "./conversations.js";
import { setUp as setUpDocuments } from "./documents.js";
import { setUp as setUpHistory } from "./history.js";
import { recall, remember } from "./memory.js";
import { about, answering, options } from "./models.js";
import { Refused, complete, models, rate, readiness, useKey } from "./service.js";
import { $, Turn, count, following, make, makeButton } from "./view.js";

const REMEMBERED_TURNS = 10; // sent along with a question
const RECENT = 3; // conversations to go on with, on an empty page
const UNREACHABLE = "The service cannot be reached.";
const OFFLINE = "You are offline.";
const INTRODUCTION = $("introduction").textContent;
// A turn: { question, content, annotations, event, seconds, state, message, rating, correction };
// state is "", "stopped" or "failed".
let conversation = fresh();
let running = null;

// Asking

async function ask(question) {
  const mine = conversation; // another may be opened meanwhile
  const view = new Turn(question);
  const run = new AbortController();
  const started = performance.now();
  const earlier = mine.turns.filter((turn) => turn.content && !turn.state).slice(-REMEMBERED_TURNS);
  // Kept at once: a reload on the way shows what was asked.
  const turn = { question, content: "", annotations: [], event: null, state: "stopped" };
  mine.turns.push(turn);
  keepTurns(mine);
  setRunning(run);
  announce("Searching the documents.");
  try {
    const messages = [
      ...earlier.flatMap((t) => [
        { role: "user", content: t.question }, { role: "assistant", content: t.content },
      ]),
      { role: "user", content: question },
    ];
    for await (const event of complete(messages, chosenModel(), run.signal)) {
      const choice = event.choices[0];
      if (!choice) continue;
      turn.annotations = choice.delta.annotations ?? turn.annotations;
      if (choice.finish_reason) {
        const { id, model, sources, abstained, nearest } = event;
        turn.event = { id, model, sources, abstained, nearest };
      }
      if (choice.delta.role) view.waitFor("Reading the passages…");
      if (choice.delta.content) {
        turn.content += choice.delta.content;
        view.show(turn.content);
      }
    }
    turn.seconds = (performance.now() - started) / 1000;
    turn.state = "";
    view.finish(turn, actions(mine, turn));
    announce(turn.event.abstained ? `Not answered by the documents. ${turn.content}`
      : `Answer: ${turn.content}`);
  } catch (error) {
    turn.event = null;
    turn.state = run.signal.aborted ? "stopped" : "failed";
    if (turn.state === "failed") turn.message = whatFailed(error);
    end(view, mine, turn);
    announce(turn.message ?? "Stopped.");
    if (turn.state === "failed") {
      if (error.status === 401) askForKey();
      watch();
    }
  } finally {
    if (mine.turns.includes(turn)) keepTurns(mine); // not where it was deleted meanwhile
    if (running === run) setRunning(null);
  }
}

// An answer that did not come to its end: what there is of it, and a way to ask again.
function end(view, mine, turn) {
  const again = makeButton(turn.state === "failed" ? "Try again" : "Ask again", "", () => {
    if (running || mine !== conversation) return;
    mine.turns = mine.turns.filter((other) => other !== turn);
    view.item.remove();
    ask(turn.question);
  });
  view.end(turn.state, turn.message ?? "Stopped", turn.content, again);
}

function whatFailed(error) {
  if (error instanceof Refused) return error.message;
  return navigator.onLine ? UNREACHABLE : OFFLINE;
}

function actions(mine, turn) {
  const { event, content, seconds } = turn;
  const row = make("div", "actions");
  const verdicts = [[1, "Helpful"], [-1, "Not helpful"]].map(([rating, label]) => {
    const button = makeButton(label, "quiet", async () => {
      if (!(await noted(rate(event.id, rating)))) return;
      turn.rating = rating;
      keepTurns(mine);
      for (const other of verdicts) other.setAttribute("aria-pressed", String(other === button));
      row.parentElement.querySelector("form.correction")?.remove();
      if (rating < 0) askForCorrection(mine, turn, row, button);
    });
    button.setAttribute("aria-pressed", String(turn.rating === rating));
    return button;
  });
  row.append(...verdicts);
  if (navigator.clipboard) {
    const copy = makeButton("Copy", "quiet", async () => {
      await navigator.clipboard.writeText(content);
      announce("Copied.");
    });
    row.append(copy);
  }
  const made = make("a", "made", `${event.model} · ${seconds.toFixed(1)} s`);
  made.href = `/registry?answer=${encodeURIComponent(event.id)}#lineage`;
  made.title = `How the answer ${event.id} came to be`;
  row.append(made);
  if (turn.correction) queueMicrotask(() => row.after(corrected(turn.correction)));
  return row;
}

async function noted(verdict) {
  try {
    await verdict;
    announce("Thank you, noted.");
    return true;
  } catch (error) {
    announce(`Your verdict could not be kept: ${whatFailed(error)}`);
    return false;
  }
}

// Asks, in its place, what the answer should have been.
function askForCorrection(mine, turn, row, button) {
  const form = make("form", "correction");
  const label = make("label", "", "What should it have said?");
  const text = make("textarea");
  const state = make("p", "state");
  text.id = `correction-${turn.event.id}`;
  text.rows = 2;
  text.maxLength = 8000;
  text.required = true;
  text.value = turn.correction ?? "";
  label.htmlFor = text.id;
  const close = makeButton("Not now", "quiet", () => {
    form.remove();
    button.focus();
  });
  form.append(label, text, make("button", "main", "Send"), close, state);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await rate(turn.event.id, -1, text.value);
    } catch (error) {
      state.textContent = `It could not be kept: ${whatFailed(error)}`;
      announce(state.textContent);
      return;
    }
    turn.correction = text.value.trim();
    keepTurns(mine);
    row.parentElement.querySelector("div.correction")?.remove();
    form.replaceWith(corrected(turn.correction));
    announce("Thank you, noted.");
    button.focus();
  });
  following(() => row.after(form));
  text.focus();
}

function corrected(text) {
  const box = make("div", "correction");
  box.append(make("p", "state", "Thank you, noted. It should have said:"), make("p", "said", text));
  return box;
}

function setRunning(run) {
  const focusGoes = [document.body, $("send"), $("stop")].includes(document.activeElement);
  running = run;
  $("send").hidden = Boolean(run);
  $("stop").hidden = !run;
  if (focusGoes) $("question").focus();
}

function announce(text) {
  $("news").textContent = text;
}

// Conversations. This tab remembers which one it shows, the browser keeps them all.

let complained = false;

function keepTurns(mine) {
  mine.updated = Date.now();
  if (keep(mine)) return;
  if (!complained) announce("This browser has no room to keep the conversation.");
  complained = true;
}

function show(wanted) {
  running?.abort();
  conversation = wanted;
  remember("session", "conversation", wanted.id);
  $("conversation").replaceChildren();
  $("welcome").hidden = false;
  showRecent();
  for (const turn of wanted.turns) {
    const view = new Turn(turn.question);
    if (turn.state || !turn.event) end(view, wanted, turn);
    else view.finish(turn, actions(wanted, turn));
  }
}

function showRecent() {
  const recent = all().filter(({ id }) => id !== conversation.id).slice(0, RECENT);
  $("recent").hidden = !recent.length;
  $("recent-list").replaceChildren(...recent.map((kept) => {
    const item = make("li");
    item.append(makeButton(titleOf(kept), "", () => open(kept.id)));
    return item;
  }));
}

function open(id) {
  const wanted = get(id);
  if (!wanted) return;
  show(wanted);
  $("question").focus();
  announce(`${titleOf(wanted)}: ${count(wanted.turns.length, "question")}.`);
}

function begin() {
  show(fresh());
  $("question").focus();
}

// Another tab changed what is kept.
addEventListener("storage", ({ key }) => {
  if (running || !isOne(key)) return;
  if (key.endsWith(conversation.id) && get(conversation.id)) show(get(conversation.id));
  else showRecent();
});

// Which model answers

let offered = [];

const chosenModel = () => ($("model").hidden ? "" : $("model").value);

function showModels(found) {
  offered = answering(found);
  const wanted = recall("local", "model");
  $("model").replaceChildren(...options(offered));
  const first = offered.find((model) => model.default) ?? offered[0];
  $("model").value = offered.some((model) => model.id === wanted) ? wanted : first.id;
  $("model").hidden = offered.length < 2;
  explainModel();
}

function explainModel() {
  const model = offered.find(({ id }) => id === $("model").value);
  $("model-about").textContent = $("model").hidden || !model ? "" : about(model);
}

$("model").addEventListener("change", () => {
  explainModel();
  remember("local", "model", $("model").value);
});

// Whether the service can answer. While it cannot, it is asked again after ever longer waits, and
// then no more until somebody asks or comes back to the page.

const WAITS_S = [1, 2, 3, 5, 8, 13, 21, 34, 55];
let next = null;

async function showStatus() {
  try {
    const ready = await readiness();
    showModels(await models());
    const one = offered.length < 2 ? ` · ${offered[0].id}` : "";
    say("good", `${count(ready.documents, "document")}${one}`, INTRODUCTION);
    return true;
  } catch (error) {
    if (error.status === 401) askForKey();
    const message = whatFailed(error);
    say("bad", error.code === "store_empty" ? "No documents yet" : message, message);
    $("add-first").hidden = error.code !== "store_empty";
    return false;
  }
}

function say(state, short, long) {
  $("status").className = state;
  $("state").textContent = short;
  $("introduction").textContent = long;
  $("add-first").hidden = true;
  $("check").hidden = true;
}

async function watch(attempt = 0) {
  clearTimeout(next);
  if (document.hidden || (await showStatus())) return;
  if (attempt < WAITS_S.length) {
    next = setTimeout(() => watch(attempt + 1), 1000 * WAITS_S[attempt]);
  } else {
    $("check").hidden = false;
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) watch(); });
addEventListener("online", () => watch());
addEventListener("offline", () => say("bad", OFFLINE, OFFLINE));
$("check").addEventListener("click", () => watch());

function askForKey() {
  if (!$("key").open) $("key").showModal();
}

// What a person does

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (!question || running) return;
  $("question").value = "";
  ask(question);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("stop").addEventListener("click", () => running?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) running?.abort();
});
addEventListener("pagehide", () => {
  if (!running) return;
  running.abort(); // else the broken connection looks like a service that went away
  keepTurns(conversation);
});
$("new").addEventListener("click", () => {
  begin();
  announce("A new conversation.");
});
$("source-close").addEventListener("click", () => $("source").close());
for (const dialog of document.querySelectorAll("dialog.side")) {
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // the backdrop
  });
}
$("key-form").addEventListener("submit", () => {
  useKey($("key-value").value);
  $("key-value").value = "";
  watch();
});
setUpDocuments({ announce, changed: () => watch() });
setUpHistory({
  announce,
  current: () => conversation,
  open,
  renamed: ({ id, title, named }) => {
    if (id === conversation.id) Object.assign(conversation, { title, named });
    showRecent();
  },
  deleted: (id) => {
    if (id === conversation.id) {
      conversation.turns = [];
      show(fresh());
    } else {
      showRecent();
    }
  },
});
show(get(recall("session", "conversation")) ?? fresh());
watch();
