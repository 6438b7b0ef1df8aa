// The documents of the store: add, by a button or by dropping them anywhere on the page; remove.

import { cameOf, documents, remove, retry } from "./service.js";
import { read, said, setUp as setUpUploads } from "./uploads.js";
import { $, count, make, makeButton, makeSureButton } from "./view.js";

const PAGE = 100;
const HASH = "#documents"; // the address by which other pages lead here
const STATES = { indexed: "", empty: "nothing to index", failed: "could not be read" };

// `announce` tells people who do not see the page; `changed` is called when the store has changed.
export function setUp({ announce, changed }) {
  const dialog = $("documents");
  let shown = 0;
  const addAll = setUpUploads({
    announce,
    added: async () => {
      changed();
      await list();
    },
  });

  async function list(from = 0) {
    try {
      const { data, total } = await documents(from, PAGE);
      if (from === 0) $("documents-list").replaceChildren();
      $("documents-list").append(...data.map(row));
      for (const { collection } of data) offer(collection);
      shown = from + data.length;
      $("documents-more").hidden = shown >= total;
      tell(total ? "" : "There are no documents yet.");
    } catch (error) {
      tell(said(error));
    }
  }

  function tell(text) {
    $("documents-state").textContent = text;
    $("documents-state").hidden = !text;
  }

  // Collections that documents are in can be chosen; any other name makes one.
  function offer(collection) {
    const known = [...$("collections").options].map(({ value }) => value);
    if (!collection || known.includes(collection)) return;
    $("collections").append(new Option(collection, collection));
  }

  async function tryAgain(document, button, state) {
    const bar = make("progress");
    button.disabled = true;
    state.after(bar);
    try {
      announce(`${document.title}: ${await read(document.title, await retry(document.id), bar, state)}`);
      changed();
      await list();
    } catch (error) {
      state.textContent = said(error);
      announce(`${document.title} failed again.`);
    } finally {
      bar.remove();
      button.disabled = false;
    }
  }

  function row(document) {
    const item = make("li", "document");
    const state = STATES[document.state] || count(document.chunks, "passage");
    const about = document.reason ? `${state}: ${document.reason}` : state;
    const sure = makeSureButton("Remove", `Remove ${document.title}`, async (button) => {
      button.disabled = true;
      try {
        await remove(document.id);
        item.remove();
        announce(`${document.title} was removed.`);
        changed();
      } catch (error) {
        button.disabled = false;
        tell(said(error));
      }
      $("documents-title").focus();
    });
    const text = make("div");
    text.append(make("p", "title", document.title), make("p", "where", `${document.name} · ${about}`));
    const where = text.lastChild;
    where.title = document.source;
    if (document.collection) where.append(` · in ${document.collection}`);
    text.append(came(document));
    item.append(text);
    if (document.state === "failed") {
      item.classList.add("bad");
      const again = makeButton("Try again", "quiet", () => tryAgain(document, again, where));
      again.setAttribute("aria-label", `Try ${document.title} again`);
      item.append(again);
    }
    item.append(sure);
    return item;
  }

  // What was made of a document, looked up when somebody asks.
  function came(document) {
    const details = make("details");
    const summary = make("summary", "", "What came of it");
    summary.setAttribute("aria-label", `What came of ${document.title}`);
    const told = make("div", "came");
    details.append(summary, told);
    details.addEventListener("toggle", async () => {
      if (!details.open) return;
      told.replaceChildren(make("p", "", "Looking it up…"));
      try {
        told.replaceChildren(...madeOf(await cameOf(document.id)));
      } catch (error) {
        told.replaceChildren(make("p", "", said(error)));
      }
    });
    return details;
  }

  function open() {
    if (dialog.open) return;
    dialog.showModal();
    $("documents-title").focus();
    // What was listed before may be gone, and must not be pressed while the list is fetched anew.
    $("documents-list").replaceChildren();
    list();
  }

  const openIfMeant = () => { if (location.hash === HASH) open(); };

  addEventListener("hashchange", openIfMeant);
  $("add-first").addEventListener("click", open);
  $("documents-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    if (location.hash === HASH) history.replaceState(null, "", location.pathname);
  });
  $("documents-more").addEventListener("click", () => list(shown));
  $("files").addEventListener("change", () => {
    addAll([...$("files").files], $("collection").value.trim());
    $("files").value = "";
  });

  // A file may be dropped anywhere; what is no file is none of ours.
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  const over = (is) => document.documentElement.classList.toggle("dropping", is);
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over(true);
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) over(false); // the window was left
  });
  addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    over(false);
    for (const other of document.querySelectorAll("dialog[open]")) {
      if (other !== dialog) other.close();
    }
    // A folder looks like a file here, and cannot be read as one.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
    const files = [...event.dataTransfer.files];
    const folders = files.filter((_, place) => entries[place]?.isDirectory);
    open();
    addAll(files.filter((file) => !folders.includes(file)), $("collection").value.trim());
    if (folders.length) {
      const names = folders.map(({ name }) => name).join(", ");
      tell(`Folders are not taken here (${names}): drop the files in them, or run fti ingest.`);
    }
  });
  openIfMeant();
}

const NEWEST = 5;

// A line for each kind of thing that was made of a document.
function madeOf({ chunks, datasets, models, answers, case_sets: cases }) {
  const list = (what, names) => names.length && make("p", "", `${what}: ${names.join(", ")}`);
  const shown = answers.slice(0, NEWEST).map(({ answer, question, cited }) => {
    const item = make("p");
    const link = make("a", "", question);
    link.href = `/registry?answer=${encodeURIComponent(answer)}#lineage`;
    item.append(cited ? "Cited in " : "Shown for ", link);
    return item;
  });
  const more = answers.length - shown.length;
  return [
    make("p", "", count(chunks.length, "passage")),
    list("Datasets", datasets.map(({ ref, split }) => `${ref} (${split})`)),
    list("Models", models.map(({ ref }) => ref)),
    list("Cases", cases),
    ...shown,
    more > 0 && make("p", "", `and for ${count(more, "answer")} more`),
  ].filter(Boolean);
}
