// Files on their way into the store: one is sent after the other, each says how far it is, and why
// it failed.

import { Refused, job, upload } from "./service.js";
import { $, count, make, makeButton } from "./view.js";

const LOOK_AGAIN_MS = 500;
const BUSY_MS = 4000;
const BUSY = 429;
const STAGES = { read: "Being read…", embed: "Being embedded…", index: "Being indexed…" };
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const said = (error) => (error instanceof Refused ? error.message
  : "The service cannot be reached.");

// `announce` tells people who do not see the page; `added` is called when the store has changed.
export function setUp({ announce, added }) {
  let sending = Promise.resolve();
  let open = 0; // files that are not through yet
  let [taken, failed] = [0, 0];

  function add(file, collection) {
    const item = make("li", "document");
    const bar = make("progress");
    const state = make("p", "where", "Waiting to be sent…");
    const text = make("div");
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-label", `Sending ${file.name}`);
    text.append(make("p", "title", file.name), state, bar);
    item.append(text);
    $("uploads").prepend(item);
    open += 1;
    const sent = sending.then(() => patiently(state, () => {
      state.textContent = "Sending…";
      return upload(file, collection, (share) => { bar.value = share; });
    }));
    sending = sent.catch(() => {}); // the next one goes all the same
    sent.then((doing) => read(file.name, doing, bar, state)).then(async (what) => {
      taken += 1;
      item.classList.add("good");
      state.textContent = what;
      await added();
    }).catch((error) => {
      failed += 1;
      item.classList.add("bad");
      state.textContent = said(error);
      const again = makeButton("Try again", "quiet", () => {
        item.remove();
        add(file, collection);
      });
      again.setAttribute("aria-label", `Try ${file.name} again`);
      item.append(again);
    }).finally(() => {
      bar.remove();
      open -= 1;
      if (open) return;
      announce([taken && `${count(taken, "document")} added`, failed && `${failed} failed`]
        .filter(Boolean).join(", ").concat("."));
      [taken, failed] = [0, 0];
    });
  }

  return (files, collection) => { for (const file of files) add(file, collection); };
}

// Follows a job to its end; what came of it in words.
export async function read(name, doing, bar, state) {
  bar.removeAttribute("value"); // how long this takes is not known
  bar.setAttribute("aria-label", `Reading ${name}`);
  while (doing.state === "queued" || doing.state === "running") {
    const queued = doing.stage || "Waiting for its turn…";
    state.textContent = doing.state === "queued" ? queued : STAGES[doing.stage] ?? "Being read…";
    await wait(LOOK_AGAIN_MS);
    doing = await patiently(state, () => job(doing.id));
  }
  if (doing.state === "failed") throw new Refused(doing.reason, 0);
  return doing.chunks ? `Added, ${count(doing.chunks, "passage")}`
    : `Nothing to index: ${doing.reason}`;
}

// A service that is busy is asked again.
async function patiently(state, act) {
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (error.status !== BUSY) throw error;
      state.textContent = "The service is busy; it is asked again…";
      await wait(BUSY_MS);
    }
  }
}
