// How the system was doing: alerts, promises against what was measured, figures over time, validations.

import { trend } from "./drawing.js";
import { make } from "./passage.js";
import { Refused, read, useKey } from "./service.js";
import { table, tags, when } from "./tables.js";

const $ = (id) => document.getElementById(id);
// What is drawn together has one scale.
const PLOTS = [
  ["Shares of answers", ["refusal_rate", "thumbs_down_share", "groundedness"]],
  ["Similarity of the best passage", ["similarity"]],
  ["Seconds of an answer, 95th percentile", ["total_p95_s", "first_token_p95_s"]],
  ["Drift of questions and documents: distance", ["questions_distance", "new_documents_distance"]],
  ["Drift of questions and documents: stability index", ["questions_length_psi",
    "questions_language_psi", "new_documents_length_psi", "new_documents_language_psi"]],
  ["Answers", ["answers"]],
  ["Documents", ["documents", "documents_failed", "documents_stale"]],
];

function showAlerts(newest) {
  if (!newest) {
    $("alerts-list").replaceChildren(make("p", "soft", "Nothing was monitored yet: fti monitor"));
    return;
  }
  const said = newest.alerts.map(({ what, message }) => [tags([what], "bad"), message]);
  $("alerts-list").replaceChildren(
    make("p", "soft", `As of ${when(newest.at)}, run ${newest.run}`),
    table(["what", "why, and what to do"], said, "Nothing is beyond its threshold."));
}

function showPromises(newest) {
  const known = (newest?.promises ?? []).filter((one) => one.promised !== null || one.measured !== null);
  $("promises-list").replaceChildren(table(
    ["verdict", "pipeline", "promise", "promised", "measured", "of"],
    known.map((one) => [tags([one.verdict], one.verdict === "broken" ? "bad" : ""), one.pipeline, one.says,
      one.promised === null ? "" : `${one.bound} ${one.promised} ${one.unit}`,
      one.measured === null ? "" : String(one.measured), one.n ? String(one.n) : ""]),
    "Nothing is promised, or was measured, yet: fti contracts --measured"));
}

function showHistory({ data, newest }) {
  const drawn = PLOTS.flatMap(([title, names]) => {
    const lines = names.map((name) => ({ name, points: data
      .filter((run) => name in run.figures)
      .map((run) => ({ at: Date.parse(run.at), value: run.figures[name] })) }))
      .filter(({ points }) => points.length);
    if (!lines.length) return [];
    const last = lines.map(({ name, points }) =>
      `${name.replaceAll("_", " ")} ${Number(points.at(-1).value.toPrecision(3))}`).join(", ");
    const figure = make("figure");
    figure.append(make("figcaption", "", title), trend(lines, `${title} over ${data.length} runs; now ${last}`));
    return [figure];
  });
  if (newest?.quality) {
    const { groundedness: g, sampled, by } = newest.quality;
    drawn.unshift(make("p", "", `Of what ${sampled} answers claim, ${Math.round(100 * g.mean)} % follows `
      + `from the passages that they cite, says ${by}.`));
  }
  $("history-list").replaceChildren(...(drawn.length ? drawn
    : [make("p", "soft", "Each run of fti monitor is kept, and is drawn here.")]));
}

function showValidations(runs) {
  const found = runs.map((run) => [run.id, when(run.finished_at), tags([run.status],
    run.status === "done" ? "" : "bad"), `${run.metrics.broken ?? "–"} of ${run.metrics.expectations ?? "–"}`]);
  const findings = (runs[0]?.findings ?? []).map((one) => [one.collection, one.frame, one.column, one.check,
    `${one.rows} of ${one.of}`, one.examples.map(({ source, value }) => `${source}: ${value}`).join("; ")]);
  $("validation-list").replaceChildren(
    table(["run", "ended", "state", "broken"], found, "Nothing was validated yet: fti validate"));
  if (!findings.length) return;
  $("validation-list").append(make("h3", "", "What is otherwise than expected"),
    table(["collection", "frame", "column", "expected", "rows", "such as"], findings, ""));
}

async function showAll() {
  try {
    const found = await read("/v1/monitoring");
    showAlerts(found.newest);
    showPromises(found.newest);
    showHistory(found);
    showValidations(found.validations);
    $("state").hidden = true;
    $("key-form").hidden = true;
  } catch (error) {
    $("state").hidden = false;
    $("state").textContent = error instanceof Refused ? error.message : "The service cannot be reached.";
    $("key-form").hidden = error.status !== 401;
  }
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key-value").value);
  showAll();
});

await showAll();
