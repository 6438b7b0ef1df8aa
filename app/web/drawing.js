// SVG by the DOM: a plot of means with intervals, figures over time, a curve of losses, and an answer's
// lineage as boxes and lines.
// All text is set as text.

const SVG = "http://www.w3.org/2000/svg";

export function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const picture = (width, height, label) =>
  draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });

export const cut = (text, most) => {
  const characters = Array.from(text);
  return characters.length > most ? `${characters.slice(0, most - 1).join("")}…` : text;
};

// Rows of {name, mean, low, high}, all between 0 and 1.
export function intervals(rows, label) {
  const [left, width, step] = [150, 360, 24];
  const x = (value) => left + width * Math.min(1, Math.max(0, value));
  const height = rows.length * step + 26;
  const svg = picture(left + width + 50, height, label);
  for (const tick of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(
      draw("line", { class: "axis", x1: x(tick), x2: x(tick), y1: 4, y2: height - 20 }),
      draw("text", { class: "soft", x: x(tick), y: height - 6, "text-anchor": "middle" }, String(tick)),
    );
  }
  rows.forEach(({ name, mean, low, high }, index) => {
    const y = index * step + 16;
    svg.append(
      draw("text", { x: left - 10, y: y + 4, "text-anchor": "end" }, name.replaceAll("_", " ")),
      draw("rect", { class: "bar", x: left, y: y - 7, width: x(mean) - left, height: 14, rx: 3 }),
    );
    if (low !== undefined) {
      svg.append(draw("line", { class: "interval", x1: x(low), x2: x(high), y1: y, y2: y }));
    }
    svg.append(
      draw("circle", { class: "mean", cx: x(mean), cy: y, r: 4 }),
      draw("text", { class: "soft", x: left + width + 8, y: y + 4 }, mean.toFixed(2)),
    );
  });
  return svg;
}

// Figures over time: lines of {name, points of {at, value}}, the latest value beside each name.
export function trend(lines, label) {
  const [left, top, width, height] = [52, 10, 380, 130];
  const svg = picture(left + width + 180, top + height + 26, label);
  const points = lines.flatMap((line) => line.points);
  const values = points.map(({ value }) => value);
  const [low, high] = [Math.min(0, ...values), Math.max(...values, Math.min(0, ...values) + 1e-9)];
  const times = points.map(({ at }) => at);
  const [first, last] = [Math.min(...times), Math.max(...times)];
  const x = (at) => left + (width * (at - first)) / (last - first || 1);
  const y = (value) => top + (height * (high - value)) / (high - low || 1);
  const day = (at) => new Date(at).toLocaleDateString("en", { month: "short", day: "numeric" });
  for (const share of [0, 0.5, 1]) {
    const value = low + share * (high - low);
    svg.append(
      draw("line", { class: "axis", x1: left, x2: left + width, y1: y(value), y2: y(value) }),
      draw("text", { class: "soft", x: left - 8, y: y(value) + 4, "text-anchor": "end" },
        String(Number(value.toPrecision(2)))),
    );
  }
  svg.append(draw("text", { class: "soft", x: left, y: top + height + 20 }, day(first)),
    draw("text", { class: "soft", x: left + width, y: top + height + 20, "text-anchor": "end" }, day(last)));
  // Names are pushed apart, so that none covers another.
  const order = lines.map((line, index) => ({ line, index, at: y(line.points.at(-1).value) }))
    .sort((one, other) => one.at - other.at);
  let free = -Infinity;
  for (const { line, index, at } of order) {
    const dashes = ["none", "6 3", "2 2", "8 3 2 3"][index % 4];
    const path = line.points.map((p) => `${x(p.at).toFixed(1)},${y(p.value).toFixed(1)}`).join(" ");
    free = Math.max(at, free + 15);
    svg.append(
      draw("polyline", { class: "loss validation", points: path, "stroke-dasharray": dashes }),
      ...line.points.map((p) => draw("circle", { class: "mean", cx: x(p.at), cy: y(p.value), r: 2.5 })),
      draw("text", { x: left + width + 10, y: free + 4 },
        `${cut(line.name.replaceAll("_", " "), 20)} ${Number(line.points.at(-1).value.toPrecision(3))}`),
    );
  }
  return svg;
}

// Losses by step; points of {step, loss, validation_loss}.
export function curve(points, label) {
  const [left, top, width, height] = [52, 8, 520, 150];
  const svg = picture(left + width + 8, top + height + 26, label);
  const losses = points.flatMap((p) => [p.loss, p.validation_loss ?? p.loss]).filter(Number.isFinite);
  const [low, high] = [Math.min(...losses), Math.max(...losses)];
  const [first, last] = [points[0].step, points.at(-1).step];
  const x = (step) => left + (width * (step - first)) / (last - first || 1);
  const y = (loss) => top + (height * (high - loss)) / (high - low || 1);
  for (const share of [0, 0.5, 1]) {
    const loss = low + share * (high - low);
    svg.append(
      draw("line", { class: "axis", x1: left, x2: left + width, y1: y(loss), y2: y(loss) }),
      draw("text", { class: "soft", x: left - 8, y: y(loss) + 4, "text-anchor": "end" }, loss.toPrecision(3)));
  }
  for (const [step, anchor] of [[first, "start"], [last, "end"]]) {
    svg.append(draw("text", { class: "soft", x: x(step), y: top + height + 20, "text-anchor": anchor },
      `step ${step}`));
  }
  const path = (key) => points.filter((p) => Number.isFinite(p[key]))
    .map((p, index) => `${index ? "L" : "M"}${x(p.step).toFixed(1)} ${y(p[key]).toFixed(1)}`).join("");
  svg.append(draw("path", { class: "loss", d: path("loss") }));
  if (points.some((p) => p.validation_loss !== undefined)) {
    svg.append(draw("path", { class: "loss validation", d: path("validation_loss") }));
  }
  return svg;
}

const [BOX, TALL, GAP, LANE] = [190, 46, 14, 250];

function box(x, y, kind, head, below, link) {
  const group = draw("g", {},
    draw("rect", { class: `node ${kind}`, x, y, width: BOX, height: TALL, rx: 8 }),
    draw("text", { class: "head", x: x + 10, y: y + 19 }, cut(head, 24)),
    draw("text", { class: "soft", x: x + 10, y: y + 36 }, cut(below, 28)),
    draw("title", {}, `${head}\n${below}`));
  if (!link) return group;
  return draw("a", { href: link }, group);
}

function line(from, to, kind = "") {
  const [x1, y1] = [from[0] + BOX, from[1] + TALL / 2];
  const [x2, y2] = [to[0], to[1] + TALL / 2];
  const middle = (x1 + x2) / 2;
  return draw("path", { class: `edge ${kind}`, d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}` });
}

const STANDING = { stands: "", changed: "gone", deleted: "gone" };
const fileName = (path) => path.split("/").pop() || path;

// What /v1/answers says: documents, passages, the answer; below, dataset, model.
export function lineage(answer) {
  const { passages, model } = answer;
  const sources = [...new Map(passages.map((p) => [p.document_id, p])).values()];
  const made = model.dataset ? 2 : 1;
  const rows = Math.max(passages.length, 1) + 1;
  const height = rows * (TALL + GAP) + 10;
  const label = `Answer ${answer.answer} by ${model.ref}, shown ${passages.length} passages of `
    + `${sources.length} documents, ${passages.filter((p) => p.cited).length} of them cited`;
  const svg = picture(2 * LANE + BOX + 10, height, label);
  const at = (lane, row) => [5 + lane * LANE, 5 + row * (TALL + GAP)];
  const middle = Math.max(0, (passages.length - 1) / 2);
  const answerAt = at(2, middle);
  const lines = [];
  const boxes = [];
  passages.forEach((passage, row) => {
    const source = sources.findIndex((s) => s.document_id === passage.document_id);
    const kind = passage.cited ? "cited" : "";
    lines.push(line(at(0, source), at(1, row), kind), line(at(1, row), answerAt, kind));
    const place = `characters ${passage.start}–${passage.end}`;
    boxes.push(box(...at(1, row), `${kind} ${STANDING[passage.standing]}`,
      `[${passage.number}] ${passage.title}`,
      passage.standing === "stands" ? place : `${passage.standing} since`,
      `/v1/sources/${encodeURIComponent(passage.chunk_id)}?answer=${encodeURIComponent(answer.answer)}`));
  });
  sources.forEach((source, row) => {
    const cited = passages.some((p) => p.document_id === source.document_id && p.cited);
    boxes.push(box(...at(0, row), cited ? "cited" : "", fileName(source.source), source.source));
  });
  const modelAt = at(1, rows - 1);
  lines.push(line(modelAt, answerAt, "cited"));
  boxes.push(box(...modelAt, "cited", `model ${model.ref}`, `over ${model.base.id}`, "#models"));
  if (made === 2) {
    lines.push(line(at(0, rows - 1), modelAt));
    boxes.push(box(...at(0, rows - 1), "", `dataset ${model.dataset.ref}`,
      `${model.dataset.documents} documents`, "#datasets"));
  }
  boxes.push(box(...answerAt, "main", answer.abstained ? "refused" : answer.text || "(nothing)",
    answer.question));
  svg.append(...lines, ...boxes);
  return svg;
}
