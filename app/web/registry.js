// What the store holds: jobs that make more of it, model versions, evaluations with plots, datasets, runs, and how
// an answer came to be.

import { showCorrections } from "./corrections.js";
import { intervals, lineage } from "./drawing.js";
import { offer, showJobs } from "./jobs.js";
import { make } from "./passage.js";
import { Refused, read, useKey } from "./service.js";
import { table, tags, when } from "./tables.js";

const $ = (id) => document.getElementById(id);
const SHOWN = ["exact_match", "f1", "rouge_l", "abstention", "citation_precision", "citation_recall",
  "faithfulness"];

const size = (bytes) => `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: 1 })} MB`;

function showModels({ data, history }) {
  const rows = data.map((version) => (version.error
    ? [version.ref, tags(["damaged"], "bad"), version.error]
    : [version.ref, [...tags(version.aliases), ...tags(version.retired ? ["retired"] : [], "bad")],
      when(version.created_at), version.base, version.dataset, version.parent ?? "",
      size(version.bytes)]));
  $("models-list").replaceChildren(
    table(["version", "aliases", "made", "base", "dataset", "goes on from", "size"], rows,
      "No model is registered yet: fti finetune DATASET --name MODEL"));
  if (!history.length) return;
  const moves = history.map((move) => [when(move.at), `${move.model}@${move.alias}`, move.kind,
    `${move.from_version ?? "–"} → ${move.to_version}`, move.reason]);
  $("models-list").append(make("h3", "", "Where aliases pointed"),
    table(["when", "alias", "how", "version", "why"], moves, ""));
}

function showEvaluations({ data }) {
  const done = data.filter((run) => run.status === "done" && run.metrics.cases);
  if (!done.length) {
    $("evaluations-list").replaceChildren(make("p", "soft",
      "Nothing was evaluated yet: fti evaluate CASES.jsonl"));
    return;
  }
  $("evaluations-list").replaceChildren(...done.map((run) => {
    const { answers, retrieval, cases, latency } = run.metrics;
    const rows = [
      ...Object.entries(retrieval ?? {}).map(([name, mean]) => ({ name, mean })),
      ...SHOWN.filter((name) => answers?.[name]?.n).map((name) => ({ name, ...answers[name] })),
    ];
    const title = run.inputs.system || run.inputs.model || "retrieval";
    const figure = make("figure");
    const caption = make("figcaption", "", `${title}: ${cases} cases`);
    const facts = [run.inputs.frozen && `frozen set ${run.inputs.frozen}`, when(run.started_at),
      latency?.p50 && `${latency.p50.toFixed(2)} s per answer`, run.id];
    caption.append(make("span", "soft", facts.filter(Boolean).join(" · ")));
    figure.append(caption, intervals(rows, `Scores of ${title} with 95 % intervals: `
      + rows.map(({ name, mean }) => `${name} ${mean.toFixed(2)}`).join(", ")));
    return figure;
  }));
}

const counts = (values) => Object.entries(values).map(([name, n]) => `${name} ${n}`).join(", ");

function showDatasets({ data }) {
  $("datasets-list").replaceChildren(
    table(["version", "made", "rows", "kinds", "documents", "digest"], data.map((dataset) =>
      [dataset.ref, when(dataset.created_at), counts(dataset.rows), counts(dataset.kinds),
        counts(dataset.documents), dataset.digest.slice(0, 12)]),
    "No dataset was built yet: fti dataset build NAME"));
}

function showRuns({ data }) {
  const seconds = (run) => (run.finished_at
    ? `${((new Date(run.finished_at) - new Date(run.started_at)) / 1000).toFixed(1)} s` : "");
  $("runs-list").replaceChildren(
    table(["run", "kind", "state", "began", "took", "made"], data.map((run) =>
      [run.id, run.kind, tags([run.status], run.status === "failed" ? "bad" : ""),
        when(run.started_at), seconds(run), run.error || counts(run.outputs)]),
    "Nothing has run yet."));
}

async function showAnswer(id) {
  $("answer-id").value = id;
  $("lineage-picture").replaceChildren();
  $("lineage-state").textContent = "Looking it up…";
  try {
    const answer = await read(`/v1/answers/${encodeURIComponent(id)}`);
    const { total_s: total } = answer.timings;
    $("lineage-state").textContent = [when(answer.created_at), `model ${answer.model.ref}`,
      answer.finish_reason, total && `${total.toFixed(2)} s`].filter(Boolean).join(" · ");
    $("lineage-picture").replaceChildren(lineage(answer));
  } catch (error) {
    $("lineage-state").textContent = said(error);
  }
}

const said = (error) => (error instanceof Refused ? error.message : "The service cannot be reached.");

async function showAll() {
  try {
    const [models, datasets, runs, evaluations, cases] = await Promise.all([
      read("/v1/registry/models"), read("/v1/registry/datasets"), read("/v1/registry/runs"),
      read("/v1/registry/runs?kind=evaluate&limit=20"), read("/v1/registry/cases")]);
    showModels(models);
    showDatasets(datasets);
    showRuns(runs);
    showEvaluations(evaluations);
    offer({ datasets: datasets.data, models: models.data, cases: cases.data });
    $("state").hidden = true;
    $("key-form").hidden = true;
  } catch (error) {
    $("state").hidden = false;
    $("state").textContent = said(error);
    $("key-form").hidden = error.status !== 401;
  }
}

const asked = () => new URLSearchParams(location.search).get("answer");

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key-value").value);
  start();
});
$("answer-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("answer-id").value.trim();
  history.pushState(null, "", `?answer=${encodeURIComponent(id)}#lineage`);
  showAnswer(id);
});
addEventListener("popstate", () => asked() && showAnswer(asked()));

async function start() {
  await showAll();
  if (!$("state").hidden) return;
  await showJobs(showAll).catch(() => {}); // its own notice says what is wrong
  await showCorrections();
}

await start();
if (asked()) showAnswer(asked());
