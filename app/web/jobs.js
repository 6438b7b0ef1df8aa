// Jobs: what the commands start, started from the page, with how far they are, a curve and a log.

import { curve } from "./drawing.js";
import { make } from "./passage.js";
import { Refused, jobs, read, resumeJob, startJob, stopJob, text } from "./service.js";

const $ = (id) => document.getElementById(id);
const LOOK_EVERY_MS = 1500;
const KINDS = { dataset: "Build a dataset", freeze: "Freeze cases", finetune: "Fine-tune", evaluate: "Evaluate",
  promote: "Promote" };
const STATES = { running: "running", done: "done", refused: "refused by the gate", failed: "failed",
  stopped: "stopped", interrupted: "interrupted" };
const ENDED_BADLY = ["failed", "interrupted", "refused"];
const clock = (iso) => new Date(iso).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
const said = (error) => (error instanceof Refused ? error.message : "The service cannot be reached.");

let shown = ""; // the job whose facts are open
let looking = 0;
let changed = () => {};

// Fills the choices of the forms with what the store holds.
export function offer({ datasets, models, cases }) {
  const llms = models.filter((version) => !version.error && !version.retired).map(({ ref }) => ref);
  fill($("finetune-dataset"), datasets.map(({ ref }) => ref));
  fill($("finetune-start"), llms, "the base model");
  fill($("freeze-dataset"), datasets.map(({ ref }) => ref));
  fill($("evaluate-model"), ["base", "extractive", ...llms], "", llms[0]);
  fill($("evaluate-cases"), cases.map(({ ref }) => ref));
  fill($("promote-model"), llms);
  fill($("promote-cases"), cases.map(({ ref }) => ref), "as configured");
  for (const form of document.querySelectorAll("form[data-kind]")) {
    const wanting = [...form.querySelectorAll("select[required]")].filter((s) => !s.options.length);
    const note = form.querySelector(".wanting");
    form.querySelector("button").disabled = wanting.length > 0;
    if (note) note.hidden = wanting.length === 0;
  }
}

function fill(select, values, none = "", preferred = "") {
  const before = select.value || preferred;
  const options = values.map((value) => new Option(value, value));
  if (none) options.unshift(new Option(none, ""));
  select.replaceChildren(...options);
  if (values.includes(before)) select.value = before;
}

// Shows the jobs; `onChange` is called when one has ended, as the store holds more then.
export async function showJobs(onChange) {
  changed = onChange;
  await list();
}

async function list() {
  clearTimeout(looking);
  const found = await jobs();
  const going = found.find((job) => job.state === "running");
  if (going && !shown) shown = going.id;
  for (const form of document.querySelectorAll("form[data-kind]")) form.inert = Boolean(going);
  $("jobs-busy").hidden = !going;
  const rows = found.map((job) => {
    const row = make("li");
    const button = make("button", "job", "");
    button.type = "button";
    button.setAttribute("aria-expanded", String(job.id === shown));
    button.append(make("span", "", describe(job)),
      make("span", `tag ${ENDED_BADLY.includes(job.state) ? "bad" : ""}`, STATES[job.state]),
      make("span", "soft", clock(job.started_at)));
    button.addEventListener("click", () => {
      shown = job.id === shown ? "" : job.id;
      list().catch(fail);
    });
    row.append(button);
    row.dataset.job = job.id;
    return row;
  });
  const focused = document.activeElement?.closest?.("#jobs-list li > button.job")?.parentElement.dataset.job;
  const open = $("job");
  $("jobs-list").replaceChildren(...rows);
  rows.find((row) => row.dataset.job === shown)?.append(open ?? facts());
  rows.find((row) => row.dataset.job === focused)?.firstChild.focus();
  $("jobs-none").hidden = found.length > 0;
  if (shown) await look();
}

const describe = ({ kind, asked }) => {
  const what = { dataset: asked.name, freeze: `${asked.name} from ${asked.dataset}`,
    finetune: `${asked.name} on ${asked.dataset}`, evaluate: `${asked.model || "what is served"} on ${asked.cases}`,
    promote: `${asked.model} to ${asked.alias ?? "champion"}` }[kind];
  return what ? `${KINDS[kind]}: ${what}` : kind;
};

// The open job: made once and filled again and again, so that what a person reads stays put.
function facts() {
  const box = make("div");
  box.id = "job";
  const bar = make("progress");
  bar.id = "job-bar";
  bar.setAttribute("aria-label", "Progress of the job");
  const stop = make("button", "", "Stop");
  stop.id = "job-stop";
  stop.addEventListener("click", () => act(stop, stopJob));
  const again = make("button", "", "Go on");
  again.id = "job-again";
  again.addEventListener("click", () => act(again, resumeJob));
  const log = make("pre");
  log.id = "job-log";
  log.tabIndex = 0;
  log.setAttribute("aria-label", "Log of the job");
  log.setAttribute("role", "region");
  const fold = make("details");
  fold.append(make("summary", "", "Log"), log);
  const state = make("p");
  state.id = "job-state";
  state.setAttribute("role", "status");
  const picture = make("figure");
  picture.id = "job-curve";
  box.append(state, bar, picture, stop, again, fold);
  return box;
}

async function act(button, what) {
  button.disabled = true;
  try {
    await what(shown);
    await list();
  } catch (error) {
    fail(error);
  } finally {
    button.disabled = false;
  }
}

async function look() {
  const id = shown;
  const [job, log] = await Promise.all([read(`/v1/jobs/${encodeURIComponent(id)}`),
    text(`/v1/jobs/${encodeURIComponent(id)}/log?most=20000`)]);
  if (id !== shown || !$("job")) return;
  const running = job.state === "running";
  const { progress } = job;
  $("job-state").textContent = running ? doing(progress) : (job.summary || job.error || STATES[job.state]);
  $("job-bar").hidden = !running;
  if (progress?.total) {
    $("job-bar").max = progress.total;
    $("job-bar").value = progress.done;
  } else {
    $("job-bar").removeAttribute("value");
  }
  $("job-curve").hidden = job.curve.length < 2;
  if (job.curve.length > 1) drawCurve(job.curve);
  $("job-stop").hidden = !running;
  $("job-again").hidden = running || job.state === "done";
  const atEnd = $("job-log").scrollTop + $("job-log").clientHeight >= $("job-log").scrollHeight - 4;
  if ($("job-log").textContent !== log) {
    $("job-log").textContent = log;
    if (atEnd) $("job-log").scrollTop = $("job-log").scrollHeight;
  }
  $("job-log").parentElement.hidden = !log;
  const row = document.querySelector(`#jobs-list li[data-job="${CSS.escape(id)}"]`);
  const wasGoing = row?.querySelector(".tag").textContent === STATES.running;
  if (running) {
    looking = setTimeout(() => look().catch(later), LOOK_EVERY_MS);
  } else if (wasGoing) {
    changed();
    await list();
  }
}

const doing = (progress) => {
  if (!progress) return "Its process starts.";
  const { stage, done, total, detail, values } = progress;
  const left = values.seconds_left;
  return [total ? `${stage} ${done} of ${total}` : `${stage} ${done}`,
    values.loss !== undefined && `loss ${values.loss.toFixed(3)}`,
    left !== undefined && done < total && `about ${left < 90 ? `${Math.ceil(left)} s` : `${Math.ceil(left / 60)} min`} left`,
    detail].filter(Boolean).join(" · ");
};

function drawCurve(points) {
  const last = points.at(-1);
  const label = `Loss by step: ${last.loss.toFixed(3)} at step ${last.step}`
    + (last.validation_loss === undefined ? "" : `, best on validation ${last.validation_loss.toFixed(3)}`);
  $("job-curve").replaceChildren(make("figcaption", "", label), curve(points, label));
}

function fail(error) {
  $("jobs-state").hidden = false;
  $("jobs-state").textContent = said(error);
}

// The service may start anew meanwhile; the job goes on.
function later(error) {
  fail(error);
  looking = setTimeout(() => list().then(() => { $("jobs-state").hidden = true; }).catch(later), 2 * LOOK_EVERY_MS);
}

for (const form of document.querySelectorAll("form[data-kind]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const asked = { kind: form.dataset.kind };
    for (const field of form.elements) {
      if (!field.name) continue;
      if (field.type === "checkbox") asked[field.name] = field.checked;
      else if (field.value) asked[field.name] = field.type === "number" ? Number(field.value) : field.value;
    }
    const button = form.querySelector("button");
    button.disabled = true;
    $("jobs-state").hidden = true;
    try {
      shown = (await startJob(asked)).id;
      form.closest("details").open = false;
      await list();
      $("job-state")?.scrollIntoView({ block: "nearest" });
    } catch (error) {
      fail(error);
    } finally {
      button.disabled = false;
    }
  });
}
