// Which model answers, said so that a person understands the difference: aliases move, versions
// stay, and two need no fine-tuning.

import { make } from "./passage.js";

const GROUPS = {
  alias: "Aliases: follow what is promoted",
  version: "Versions: stay as they are",
  base: "Without fine-tuning on your documents",
};

const day = (seconds) => new Date(1000 * seconds).toLocaleDateString("en", { dateStyle: "medium" });

// What kind of model a name means, by its form; null for what does not answer from the documents.
export function kindOf({ id, kind, default: isDefault }) {
  if (kind === "embedder") return null;
  if (id === "base" || id === "extractive") return "base";
  if (id.includes("@")) return "alias";
  if (/^[^/@]+\/\d+$/.test(id)) return "version";
  return isDefault ? "base" : null;
}

const short = {
  alias: ({ id, resolved }) => `${id} (now ${resolved})`,
  version: ({ id }) => id,
  base: ({ id }) => ({ base: "base (not fine-tuned)",
    extractive: "extractive (no language model)" })[id] ?? id,
};

const long = {
  alias: ({ id, resolved }) => `${id} is an alias: it means ${resolved} now, and the next version `
    + "once that is promoted.",
  version: ({ id, created }) => `${id} is one version, made on ${day(created)}: it never changes.`,
  base: ({ id }) => ({ base: "base is the model as it comes, before any fine-tuning on your documents.",
    extractive: "extractive has no language model: it repeats the sentence nearest to the question.",
  })[id] ?? "",
};

export const about = (model) => long[kindOf(model) ?? "base"](model);

// Those that can answer here; the others serve programs.
export const answering = (models) => models.filter(kindOf);

// The options of a chooser, in groups.
export function options(models) {
  return Object.entries(GROUPS).flatMap(([kind, label]) => {
    const members = models.filter((model) => kindOf(model) === kind);
    if (!members.length) return [];
    const group = make("optgroup");
    group.label = label;
    group.append(...members.map((model) => {
      const option = make("option", "", short[kind](model));
      option.value = model.id;
      return option;
    }));
    return [group];
  });
}
