// Corrections that people gave: whether each may teach a model.

import { make } from "./passage.js";
import { Refused, corrections, decide } from "./service.js";

const $ = (id) => document.getElementById(id);
const NONE = {
  pending: "Nothing waits for a decision.", accepted: "None was accepted yet.", rejected: "None was rejected yet.",
};
const said = (error) => (error instanceof Refused ? error.message : "The service cannot be reached.");

// Shows those in the state that is chosen, oldest first.
export async function showCorrections() {
  const state = $("corrections-shown").value;
  try {
    const found = await corrections(state);
    $("corrections-list").replaceChildren(...found.map(row));
    tell(found.length ? "" : NONE[state]);
  } catch (error) {
    tell(said(error));
  }
}

function tell(text) {
  $("corrections-state").textContent = text;
  $("corrections-state").hidden = !text;
}

function row(given) {
  const item = make("li");
  const form = make("form");
  const link = make("a", "", "How the answer came to be");
  link.href = `/registry?answer=${encodeURIComponent(given.answer_id)}#lineage`;
  const text = field("textarea", "It should have been", given.answer ?? given.correction);
  const reason = field("input", "Reason", given.reason);
  text.lastChild.rows = 3;
  form.append(text, reason,
    button("Accept", () => settle("accepted")), button("Reject", () => settle("rejected")));
  form.addEventListener("submit", (event) => event.preventDefault());

  async function settle(decision) {
    const answer = text.lastChild.value.trim();
    for (const each of form.querySelectorAll("button")) each.disabled = true;
    try {
      await decide(given.answer_id, {
        decision, number: given.number, reason: reason.lastChild.value.trim(),
        ...(decision === "accepted" && { answer }),
      });
      item.remove();
      tell(`${decision === "accepted" ? "Accepted" : "Rejected"}: ${given.question}`);
      $("corrections-title").focus();
    } catch (error) {
      tell(said(error));
      for (const each of form.querySelectorAll("button")) each.disabled = false;
    }
  }

  item.append(make("h3", "", given.question), make("p", "", `Answered: ${given.answered}`));
  if (given.comment) item.append(make("p", "soft", `“${given.comment}”`));
  item.append(make("p", "soft", [given.model, ...given.sources].join(" · ")), link, form);
  return item;
}

function field(kind, name, value) {
  const label = make("label", "", name);
  const control = make(kind);
  control.value = value;
  label.append(control);
  return label;
}

function button(text, act) {
  const made = make("button", "", text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

$("corrections-shown").addEventListener("change", showCorrections);
