// What the page asks of the service.

let key = sessionStorage.getItem("key") ?? "";

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

export function useKey(value) {
  key = value;
  sessionStorage.setItem("key", value);
}

// The response, or Refused with the service's own words.
async function call(path, options = {}) {
  const headers = { ...options.headers };
  if (key) headers.Authorization = `Bearer ${key}`;
  if (options.body) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new Refused(body?.error?.message ?? `The service answered with status ${response.status}.`, response.status);
}

export async function readiness() {
  return (await call("/readyz")).json();
}

export async function models() {
  return (await (await call("/v1/models")).json()).data.map((model) => model.id);
}

export async function rate(answerId, rating) {
  await call("/v1/feedback", {
    method: "POST", body: JSON.stringify({ answer_id: answerId, rating }),
  });
}

// The chunks of a streamed answer. Returns early only when the service has said everything.
export async function* complete(messages, signal) {
  const response = await call("/v1/chat/completions", {
    method: "POST", body: JSON.stringify({ messages, stream: true }), signal,
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
      if (event.error) throw new Refused(event.error.message, 0);
      yield event;
    }
  }
}
