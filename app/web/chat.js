// The chat page: one question at a time, the answer streamed in.

import { setUp as setUpDocuments } from "./documents.js";
import { Refused, complete, models, rate, readiness, useKey } from "./service.js";
import { $, Turn, count, following, make, makeButton } from "./view.js";

const REMEMBERED_TURNS = 10; // sent along with a question
const KEPT_TURNS = 50; // shown again after a reload
const UNREACHABLE = "The service cannot be reached.";
const OFFLINE = "You are offline.";
const INTRODUCTION = $("introduction").textContent;
let turns = []; // { question, content, annotations, event, seconds }
let running = null;

// Asking

async function ask(question) {
  const turn = new Turn(question);
  const run = new AbortController();
  const started = performance.now();
  let content = "";
  let annotations = [];
  let last = null;
  setRunning(run);
  announce("Searching the documents.");
  try {
    const earlier = turns.slice(-REMEMBERED_TURNS).flatMap((t) => [
      { role: "user", content: t.question }, { role: "assistant", content: t.content },
    ]);
    const messages = [...earlier, { role: "user", content: question }];
    for await (const event of complete(messages, chosenModel(), run.signal)) {
      const choice = event.choices[0];
      if (!choice) continue;
      annotations = choice.delta.annotations ?? annotations;
      if (choice.finish_reason) last = event;
      if (choice.delta.role) turn.waitFor("Reading the passages…");
      if (choice.delta.content) {
        content += choice.delta.content;
        turn.show(content);
      }
    }
    const { id, model, sources, abstained } = last;
    const seconds = (performance.now() - started) / 1000;
    const done = { question, content, annotations, event: { id, model, sources, abstained }, seconds };
    turn.finish(content, done.event, annotations, actions(done));
    turns.push(done);
    keepTurns();
    announce(`Answer: ${content}`);
  } catch (error) {
    if (error.name === "AbortError") {
      turn.end("stopped", "Stopped");
      announce("Stopped.");
    } else {
      const message = whatFailed(error);
      const again = makeButton("Try again", "", () => {
        if (running) return;
        turn.item.remove();
        ask(question);
      });
      turn.end("failed", message, again);
      announce(message);
      if (error.status === 401) askForKey();
      watch();
    }
  } finally {
    if (running === run) setRunning(null);
  }
}

function whatFailed(error) {
  if (error instanceof Refused) return error.message;
  return navigator.onLine ? UNREACHABLE : OFFLINE;
}

function actions(done) {
  const { event, content, seconds } = done;
  const row = make("div", "actions");
  const verdicts = [[1, "Helpful"], [-1, "Not helpful"]].map(([rating, label]) => {
    const button = makeButton(label, "quiet", async () => {
      if (!(await kept(rate(event.id, rating)))) return;
      done.rating = rating;
      keepTurns();
      for (const other of verdicts) other.setAttribute("aria-pressed", String(other === button));
      row.parentElement.querySelector(".correction")?.remove();
      if (rating < 0) following(() => row.after(correction(event.id)));
    });
    button.setAttribute("aria-pressed", String(done.rating === rating));
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
  row.append(make("span", "made", `${event.model} · ${seconds.toFixed(1)} s`));
  row.lastChild.title = `Answer ${event.id}`;
  return row;
}

async function kept(verdict) {
  try {
    await verdict;
    announce("Thank you, noted.");
    return true;
  } catch {
    announce("Your verdict could not be kept.");
    return false;
  }
}

// Asks what the answer should have been.
function correction(answerId) {
  const form = make("form", "correction");
  const label = make("label", "", "What should it have said?");
  const text = make("textarea");
  const send = make("button", "", "Send");
  text.id = `correction-${answerId}`;
  text.rows = 2;
  text.maxLength = 8000;
  text.required = true;
  label.htmlFor = text.id;
  form.append(label, text, send);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await kept(rate(answerId, -1, text.value))) {
      form.replaceChildren(make("p", "state", "Thank you, noted."));
    }
  });
  return form;
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

// The conversation outlives a reload of this tab, and nothing else.

function keepTurns() {
  for (let most = KEPT_TURNS; most > 0; most = Math.floor(most / 2)) {
    try {
      sessionStorage.setItem("turns", JSON.stringify(turns.slice(-most)));
      return;
    } catch { /* the tab's storage is full: keep fewer */ }
  }
}

function showKeptTurns() {
  try {
    turns = JSON.parse(sessionStorage.getItem("turns")) ?? [];
  } catch {
    turns = [];
  }
  for (const kept of turns) {
    new Turn(kept.question).finish(kept.content, kept.event, kept.annotations, actions(kept));
  }
}

// Which model answers

const chosenModel = () => ($("model").hidden ? "" : $("model").value);

function showModels(all) {
  const wanted = sessionStorage.getItem("model");
  const options = all.map((model) => {
    const option = make("option", "", model.id);
    if (model.resolved !== model.id) option.textContent += ` (${model.resolved})`;
    option.value = model.id;
    return option;
  });
  $("model").replaceChildren(...options);
  const first = all.find((model) => model.default) ?? all[0];
  $("model").value = all.some((model) => model.id === wanted) ? wanted : first.id;
  $("model").hidden = all.length < 2;
}

$("model").addEventListener("change", () => sessionStorage.setItem("model", $("model").value));

// Whether the service can answer. While it cannot, it is asked again after ever longer waits, and
// then no more until somebody asks or comes back to the page.

const WAITS_S = [1, 2, 3, 5, 8, 13, 21, 34, 55];
let next = null;

async function showStatus() {
  try {
    const ready = await readiness();
    const all = await models();
    showModels(all);
    const one = all.length < 2 ? ` · ${all[0].id}` : "";
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

// Colours

function useTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  $("theme").setAttribute("aria-pressed", String(dark));
}

$("theme").addEventListener("click", () => {
  const theme = $("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark";
  sessionStorage.setItem("theme", theme);
  useTheme(theme);
});

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
$("new").addEventListener("click", () => {
  running?.abort();
  turns = [];
  sessionStorage.removeItem("turns");
  $("conversation").replaceChildren();
  $("welcome").hidden = false;
  $("question").focus();
  announce("A new conversation.");
});
$("source-close").addEventListener("click", () => $("source").close());
for (const dialog of [$("source"), $("documents")]) {
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
useTheme(sessionStorage.getItem("theme"));
showKeptTurns();
watch();
