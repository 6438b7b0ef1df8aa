// The API's description, made from /openapi.json.

import { make } from "./passage.js";
import { Refused, read } from "./service.js";

const $ = (id) => document.getElementById(id);

function show({ paths, components }) {
  const schemas = components?.schemas ?? {};
  const sections = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      if (!sections.has(tag)) sections.set(tag, [make("h2", "", tag)]);
      sections.get(tag).push(described(path, method, operation, schemas));
    }
  }
  $("operations").replaceChildren(...[...sections.values()].flat());
}

function described(path, method, operation, schemas) {
  const box = make("details");
  const head = make("summary");
  const text = (operation.description ?? operation.summary ?? "").replaceAll("``", "");
  const [first, ...more] = text.split("\n\n");
  head.append(make("span", "method", method.toUpperCase()), make("code", "", path),
    make("span", "", first.replaceAll("\n", " ")));
  box.append(head, ...more.map((text) => make("p", "soft", text.replaceAll("\n", " "))));
  const rows = (operation.parameters ?? []).map((p) => [p.name, p.in, kind(p.schema), p.description]);
  for (const { schema } of Object.values(operation.requestBody?.content ?? {})) {
    const named = schemas[nameOf(schema)] ?? schema;
    for (const [name, field] of Object.entries(named.properties ?? {})) {
      const needed = named.required?.includes(name) ? "body, required" : "body";
      rows.push([name, needed, kind(field), field.description]);
    }
  }
  if (rows.length) box.append(table(rows));
  return box;
}

function table(rows) {
  const body = make("tbody");
  for (const row of rows) {
    const line = make("tr");
    line.append(...row.map((cell) => make("td", "", cell ?? "")));
    body.append(line);
  }
  const head = make("tr");
  head.append(...["name", "where", "kind", "meaning"].map((title) => make("th", "", title)));
  const whole = make("table");
  const top = make("thead");
  top.append(head);
  whole.append(top, body);
  return whole;
}

const nameOf = (schema) => schema?.$ref?.split("/").pop();

function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf) return schema.anyOf.filter((s) => s.type !== "null").map(kind).join(" or ");
  if (schema.type === "array") return `list of ${kind(schema.items) || "values"}`;
  return schema.type ?? "";
}

try {
  show(await read("/openapi.json"));
  $("state").hidden = true;
} catch (error) {
  $("state").textContent = error instanceof Refused ? error.message
    : "The service cannot be reached.";
}
