// The conversations that this browser keeps: open, rename, export, delete.

import { all, forget, get, keep, rename, titleOf } from "./conversations.js";
import { toMarkdown } from "./markdown.js";
import { $, count, make, makeButton, makeSureButton } from "./view.js";

const when = (time) => new Date(time).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });

// `current` gives the conversation that is shown; `open` shows another; `renamed` and `deleted`
// hear of the ids of those.
export function setUp({ announce, current, open, renamed, deleted }) {
  const dialog = $("history");

  function list() {
    const kept = all();
    $("history-list").replaceChildren(...kept.map(row));
    $("history-state").hidden = kept.length > 0;
    $("history-delete").hidden = kept.length < 2;
  }

  function row(conversation) {
    const item = make("li", "kept");
    const title = makeButton(titleOf(conversation), "title", () => {
      dialog.close();
      open(conversation.id);
    });
    if (conversation.id === current().id) title.setAttribute("aria-current", "true");
    const about = `${when(conversation.updated)} · ${count(conversation.turns.length, "question")}`;
    const actions = make("div", "actions");
    const name = titleOf(conversation);
    const buttons = [
      ["Rename", () => edit(item, conversation)],
      ["Export", () => download(conversation)],
    ].map(([text, act]) => {
      const button = makeButton(text, "quiet", act);
      button.setAttribute("aria-label", `${text} ${name}`);
      return button;
    });
    const remove = makeSureButton("Delete", `Delete ${name}`, () => {
      forget(conversation.id);
      deleted(conversation.id);
      announce(`${name} was deleted.`);
      list();
      $("history-title").focus();
    });
    actions.append(...buttons, remove);
    item.append(title, make("p", "where", about), actions);
    return item;
  }

  function edit(item, conversation) {
    const form = make("form", "rename");
    const label = make("label", "unseen", "New name");
    const input = make("input");
    input.id = "history-name";
    input.value = titleOf(conversation);
    input.maxLength = 80;
    input.required = true;
    label.htmlFor = input.id;
    const cancel = makeButton("Cancel", "quiet", list);
    form.append(label, input, make("button", "", "Save"), cancel);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const latest = get(conversation.id) ?? conversation;
      rename(latest, input.value);
      if (!keep(latest)) announce("The name could not be kept.");
      renamed(latest);
      list();
      $("history-title").focus();
    });
    form.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault(); // ends the renaming, not the dialog
      list();
      $("history-title").focus();
    });
    item.replaceChildren(form);
    input.select();
  }

  function download(conversation) {
    const latest = get(conversation.id) ?? conversation;
    const file = new Blob([toMarkdown(latest, location.origin)], { type: "text/markdown" });
    const link = make("a");
    link.href = URL.createObjectURL(file);
    link.download = `${titleOf(latest).replace(/[^\p{L}\p{N} -]/gu, "").trim() || "conversation"}.md`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    announce(`${titleOf(latest)} was exported.`);
  }

  $("history-delete").replaceWith(Object.assign(
    makeSureButton("Delete all", "Delete all conversations", () => {
      for (const { id } of all()) {
        forget(id);
        deleted(id);
      }
      announce("All conversations were deleted.");
      list();
      $("history-title").focus();
    }), { id: "history-delete" }));
  $("open-history").addEventListener("click", () => {
    list();
    dialog.showModal();
    $("history-title").focus();
  });
  $("history-close").addEventListener("click", () => dialog.close());
}
