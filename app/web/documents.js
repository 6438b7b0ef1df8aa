// The documents of the store: add, watch them being read, remove.

import { Refused, documents, job, remove, upload } from "./service.js";
import { $, count, make, makeButton } from "./view.js";

const PAGE = 100;
const LOOK_AGAIN_MS = 500;
const UNREACHABLE = "The service cannot be reached.";
const STATES = { indexed: "", empty: "nothing to index", failed: "could not be read" };
const said = (error) => (error instanceof Refused ? error.message : UNREACHABLE);
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// `announce` tells people who do not see the page; `changed` is called when the store has changed.
export function setUp({ announce, changed }) {
  let shown = 0;

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
    const sure = makeButton("Remove", "quiet", async () => {
      if (sure.textContent === "Remove") {
        sure.textContent = "Really remove?";
        sure.addEventListener("blur", () => { sure.textContent = "Remove"; }, { once: true });
        return;
      }
      sure.disabled = true;
      try {
        await remove(document.id);
        item.remove();
        announce(`${document.title} was removed.`);
        changed();
      } catch (error) {
        sure.disabled = false;
        tell(said(error));
      }
      $("documents-title").focus();
    });
    sure.setAttribute("aria-label", `Remove ${document.title}`);
    const text = make("div");
    text.append(make("p", "title", document.title), make("p", "where", `${document.name} · ${about}`));
    text.lastChild.title = document.source;
    if (document.state === "failed") item.classList.add("bad");
    item.append(text, sure);
    return item;
  }

  async function add(file) {
    const item = make("li", "document");
    const bar = make("progress");
    const state = make("p", "where", "Sending…");
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Sending ${file.name}`);
    const text = make("div");
    text.append(make("p", "title", file.name), state, bar);
    item.append(text);
    $("uploads").prepend(item);
    try {
      let doing = await upload(file, (share) => { bar.value = share; });
      bar.removeAttribute("value"); // how long reading takes is not known
      bar.setAttribute("aria-label", `Reading ${file.name}`);
      while (doing.state === "queued" || doing.state === "running") {
        state.textContent = doing.state === "queued" ? "Waiting…" : "Being read…";
        await wait(LOOK_AGAIN_MS);
        doing = await job(doing.id);
      }
      if (doing.state === "failed") throw new Refused(doing.reason, 0);
      state.textContent = doing.chunks ? `Added, ${count(doing.chunks, "passage")}`
        : `Nothing to index: ${doing.reason}`;
      announce(`${file.name} was added.`);
      changed();
      await list();
    } catch (error) {
      item.classList.add("bad");
      state.textContent = said(error);
      announce(`${file.name} could not be added: ${said(error)}`);
    } finally {
      bar.remove();
    }
  }

  const addAll = (files) => { for (const file of files) add(file); };

  function open() {
    $("documents").showModal();
    $("documents-title").focus();
    // What was listed before may be gone, and must not be pressed while the list is fetched anew.
    $("documents-list").replaceChildren();
    list();
  }

  $("open-documents").addEventListener("click", open);
  $("add-first").addEventListener("click", open);
  $("documents-close").addEventListener("click", () => $("documents").close());
  $("documents-more").addEventListener("click", () => list(shown));
  $("files").addEventListener("change", () => {
    addAll($("files").files);
    $("files").value = "";
  });
  $("drop").addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  $("drop").addEventListener("dragleave", () => $("drop").classList.remove("over"));
  $("drop").addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    addAll(event.dataTransfer.files);
  });
}
