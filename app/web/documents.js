// The documents of the store: add, by a button or by dropping them anywhere on the page; remove.

import { documents, remove } from "./service.js";
import { said, setUp as setUpUploads } from "./uploads.js";
import { $, count, make, makeSureButton } from "./view.js";

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
    text.lastChild.title = document.source;
    if (document.state === "failed") item.classList.add("bad");
    item.append(text, sure);
    return item;
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
    addAll([...$("files").files]);
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
    addAll(files.filter((file) => !folders.includes(file)));
    if (folders.length) {
      const names = folders.map(({ name }) => name).join(", ");
      tell(`Folders are not taken here (${names}): drop the files in them, or run fti ingest.`);
    }
  });
  openIfMeant();
}
