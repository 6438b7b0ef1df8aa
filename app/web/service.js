// What the page asks of the service.

import { recall, remember } from "./memory.js";

let key = recall("session", "key") ?? "";

export class Refused extends Error {
  constructor(message, status, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export function useKey(value) {
  key = value;
  remember("session", "key", value);
}

const refusal = (body, status) => new Refused(
  body?.error?.message ?? `The service answered with status ${status}.`, status, body?.error?.code,
);

// The response, or Refused with the service's own words.
async function call(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (options.body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  throw refusal(await response.json().catch(() => null), response.status);
}

export const read = async (path, options) => (await call(path, options)).json();

export const readiness = () => read("/readyz");

export const models = async () => (await read("/v1/models")).data;

// The path of one of the service's own links, by whatever name the service was reached.
export function source(url) {
  const { pathname, search } = new URL(url, location.href);
  return read(pathname + search);
}

export async function rate(answerId, rating, correction = "") {
  await call("/v1/feedback", {
    method: "POST", body: JSON.stringify({ answer_id: answerId, rating, correction }),
  });
}

// The chunks of a streamed answer. Returns early only when the service has said everything.
export async function* complete(messages, model, signal) {
  const asked = { messages, stream: true, ...(model && { model }) };
  const response = await call("/v1/chat/completions", {
    method: "POST", body: JSON.stringify(asked), signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Refused("The connection broke before the answer was complete.", 0);
    buffer += value;
    const blocks = buffer.split("\n\n");
    buffer = blocks.pop();
    for (const block of blocks) {
      const data = block.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw refusal(event, 0);
      yield event;
    }
  }
}

// Jobs

export const jobs = async () => (await read("/v1/jobs?limit=20")).data;

export const text = async (path) => (await call(path)).text();

export const startJob = (asked) => read("/v1/jobs", { method: "POST", body: JSON.stringify(asked) });

export const stopJob = (id) => read(`/v1/jobs/${encodeURIComponent(id)}/stop`, { method: "POST" });

export const resumeJob = (id) => read(`/v1/jobs/${encodeURIComponent(id)}/resume`, { method: "POST" });

// Documents

export const documents = (offset, limit) =>
  read(`/v1/documents?offset=${offset}&limit=${limit}`);

export const job = (id) => read(`/v1/documents/jobs/${encodeURIComponent(id)}`);

export const retry = (id) =>
  read(`/v1/documents/${encodeURIComponent(id)}/retry`, { method: "POST" });

export const cameOf = (id) => read(`/v1/documents/${encodeURIComponent(id)}/lineage`);

export const remove = (id) =>
  call(`/v1/documents/${encodeURIComponent(id)}`, { method: "DELETE" });

// Corrections

export const corrections = async (state) =>
  (await read(`/v1/corrections${state ? `?state=${state}` : ""}`)).data;

export const decide = (answerId, decision) =>
  read(`/v1/corrections/${encodeURIComponent(answerId)}`, {
    method: "POST", body: JSON.stringify(decision),
  });

// Sends a file, into a collection if one is named; `progress` hears of the share that has left. fetch cannot tell that yet.
export function upload(file, collection, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const form = new FormData();
    form.append("file", file, file.name);
    if (collection) form.append("collection", collection);
    request.open("POST", "/v1/documents");
    request.responseType = "json";
    if (key) request.setRequestHeader("Authorization", `Bearer ${key}`);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      if (request.status === 202) resolve(request.response);
      else reject(refusal(request.response, request.status));
    });
    request.addEventListener("error", () => reject(new TypeError("unreachable")));
    request.send(form);
  });
}
