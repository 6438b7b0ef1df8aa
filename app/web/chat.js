// The chat page: one question at a time, the answer streamed in.

import { Refused, complete, models, rate, readiness, useKey } from "./service.js";
import { $, Turn, make, makeButton } from "./view.js";

const REMEMBERED_TURNS = 10;
const UNREACHABLE = "The service cannot be reached.";
const INTRODUCTION = $("introduction").textContent;
let history = [];
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
    const messages = [...history.slice(-2 * REMEMBERED_TURNS), { role: "user", content: question }];
    for await (const event of complete(messages, run.signal)) {
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
    const seconds = (performance.now() - started) / 1000;
    turn.finish(content, last, annotations, actions(last, content, seconds));
    history.push({ role: "user", content: question }, { role: "assistant", content });
    announce(`Answer: ${content}`);
  } catch (error) {
    if (error.name === "AbortError") {
      turn.end("stopped", "Stopped");
      announce("Stopped.");
    } else {
      const message = error instanceof Refused ? error.message : UNREACHABLE;
      const again = makeButton("Try again", "", () => {
        if (running) return;
        turn.item.remove();
        ask(question);
      });
      turn.end("failed", message, again);
      announce(message);
      if (error.status === 401) askForKey();
      showStatus();
    }
  } finally {
    if (running === run) setRunning(null);
  }
}

function actions(event, content, seconds) {
  const row = make("div", "actions");
  const verdicts = [[1, "Helpful"], [-1, "Not helpful"]].map(([rating, label]) => {
    const button = makeButton(label, "quiet", async () => {
      try {
        await rate(event.id, rating);
        for (const other of verdicts) other.setAttribute("aria-pressed", String(other === button));
        announce("Thank you, noted.");
      } catch {
        announce("Your verdict could not be kept.");
      }
    });
    button.setAttribute("aria-pressed", "false");
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

// Whether the service can answer

const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

async function showStatus() {
  let state = "bad";
  try {
    const ready = await readiness();
    const [model] = await models();
    state = "good";
    $("state").textContent = `${count(ready.documents, "document")} · ${model}`;
    $("introduction").textContent = INTRODUCTION;
  } catch (error) {
    if (error.status === 401) askForKey();
    const message = error instanceof Refused ? error.message : UNREACHABLE;
    $("state").textContent = message;
    $("introduction").textContent = message;
  }
  $("status").className = state;
  return state;
}

async function keepStatus() {
  const state = document.hidden ? "good" : await showStatus();
  setTimeout(keepStatus, state === "good" ? 30_000 : 3_000);
}

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
$("new").addEventListener("click", () => {
  running?.abort();
  history = [];
  $("conversation").replaceChildren();
  $("welcome").hidden = false;
  $("question").focus();
  announce("A new conversation.");
});
$("source-close").addEventListener("click", () => $("source").close());
$("source").addEventListener("click", (event) => {
  if (event.target === $("source")) $("source").close(); // the backdrop
});
$("key-form").addEventListener("submit", () => {
  useKey($("key-value").value);
  $("key-value").value = "";
  showStatus();
});
keepStatus();
