// A conversation as Markdown with its sources. What people, models and documents said stays text:
// nothing of it can become markup or HTML of the file.

import { headings, pageOf } from "./passage.js";
import { titleOf } from "./conversations.js";

// Every character that Markdown could read as more than itself, and what begins a line with one.
const escaped = (text) => text
  .replace(/[\\`*_{}[\]<>|~#&!$]/g, "\\$&")
  .replace(/^(\s*)([-+=]|\d+(?=[.)]))/gm, (_, space, mark) =>
    (/\d/.test(mark) ? `${space}${mark}\\` : `${space}\\${mark}`));
const line = (text) => escaped(text.replace(/\s+/g, " ").trim());
const quoted = (text) => text.split("\n").map((each) => `> ${each}`.trimEnd()).join("\n");

export function toMarkdown(conversation, origin) {
  const when = new Date(conversation.updated).toISOString().slice(0, 16).replace("T", " ");
  const parts = [`# ${line(titleOf(conversation))}`, `Last asked ${when} UTC, at ${origin}`];
  for (const turn of conversation.turns) parts.push(...turnParts(turn));
  return `${parts.join("\n\n")}\n`;
}

function turnParts({ question, content, event, state, message, correction }) {
  const parts = [`## ${line(question)}`];
  if (event?.abstained) parts.push("*Not answered by the documents.*");
  if (content) parts.push(escaped(content));
  if (state === "stopped") parts.push("*Stopped.*");
  if (state === "failed") parts.push(`*Failed: ${line(message ?? "")}*`);
  if (correction) parts.push("Corrected by the reader:", quoted(escaped(correction)));
  const sources = event?.sources ?? [];
  const cited = sources.filter((source) => source.cited);
  if (cited.length) parts.push("Sources:", ...cited.map(sourceText));
  const nearest = event?.abstained && event.nearest;
  if (nearest) {
    const source = { ...sources[nearest.marker - 1], evidence: [nearest] };
    parts.push("What came nearest:", sourceText(source));
  }
  if (event?.id) parts.push(`Answer ${line(event.id)} by ${line(event.model)}`);
  return parts;
}

function sourceText(source) {
  const place = [headings(source).map(line).join(" › "), pageOf(source), line(source.document)];
  const sentences = (source.evidence ?? []).map((each) => quoted(sentence(source.text, each)));
  return [`[${source.marker}] ${place.filter(Boolean).join(", ")}`, ...sentences].join("\n\n");
}

// A sentence with its marked words in bold.
function sentence(text, { start, end, words, context }) {
  const characters = Array.from(text);
  const slice = (from, to) => escaped(characters.slice(from, to).join(""));
  let said = "";
  let at = start;
  for (const word of words) {
    said += `${slice(at, word.start)}**${slice(word.start, word.end)}**`;
    at = word.end;
  }
  said += slice(at, end);
  return context ? `${escaped(context)}\n\n${said}` : said;
}
