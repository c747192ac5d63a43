// Landscape of Table 2. Pure functions first (tested in node against Python), drawing last.

const FLAGSHIP = "Llama 3 405B";
const KINDS = { // shape and words; the colour is in the style sheet
  llama: ["circle", "Llama 3 (open weights)"], open: ["square", "other open weights"], closed: ["diamond", "closed"],
};
const PLOT = { left: 60, right: 540, top: 32, bottom: 376, strip: 745 };
const SIZES = [5e9, 5e11];
const CLUSTER = 60, GAP = 19;

export function leadOf(entries, rival) {
  const score = (name) => entries.find((entry) => entry.model === name).score;
  const mine = score(FLAGSHIP), other = score(rival);
  return mine === null || other === null ? null : Math.round((mine - other) * 10) / 10;
}

export function headline(benchmark, entries, rival) {
  const ahead = leadOf(entries, rival);
  if (ahead === null) return `${benchmark}: the paper prints no score for ${rival}`;
  if (ahead === 0) return `${benchmark}: ${FLAGSHIP} is level with ${rival}`;
  return `${benchmark}: ${FLAGSHIP} is ${Math.abs(ahead).toFixed(1)} points ${ahead > 0 ? "ahead of" : "behind"} ${rival}`;
}

export function scoreRange(scores) {
  const low = 10 * Math.floor(Math.min(...scores) / 10), high = 10 * Math.ceil(Math.max(...scores) / 10);
  const span = high - low;
  return [low, high, span <= 20 ? 5 : span <= 50 ? 10 : 20];
}

// Move positions apart (smallest first) until none is closer than the gap.
export function spread(wanted, gap, low, high) {
  const placed = [];
  for (const y of wanted) placed.push(Math.max(y, placed.length ? placed.at(-1) + gap : low));
  let limit = high;
  for (let i = placed.length - 1; i >= 0; i--) { placed[i] = Math.min(placed[i], limit); limit = placed[i] - gap; }
  return placed;
}

const xOf = (parameters) => parameters === null ? PLOT.strip
  : PLOT.left + ((PLOT.right - PLOT.left) * Math.log(parameters / SIZES[0])) / Math.log(SIZES[1] / SIZES[0]);

// Points and labels of all models with a score: by size, those without a size last.
export function place(entries) {
  const shown = entries.filter((entry) => entry.score !== null);
  const [low, high] = scoreRange(shown.map((entry) => entry.score));
  const yOf = (score) => PLOT.bottom - ((PLOT.bottom - PLOT.top) * (score - low)) / (high - low);
  const spots = shown.map((entry) => ({ entry, x: xOf(entry.parameters), y: yOf(entry.score) })).sort((a, b) => a.x - b.x);
  const groups = [];
  for (const spot of spots) {
    if (groups.length && spot.x - groups.at(-1).at(-1).x <= CLUSTER) groups.at(-1).push(spot);
    else groups.push([spot]);
  }
  return groups.flatMap((group) => {
    const label_x = Math.max(...group.map((spot) => spot.x)) + 20;
    group.sort((a, b) => a.y - b.y);
    const ys = spread(group.map((spot) => spot.y), GAP, PLOT.top, PLOT.bottom);
    return group.map((spot, i) => ({ ...spot, label_x, label_y: ys[i] }));
  });
}

function shape(parent, kind, x, y, size, attributes) {
  if (kind === "circle") return svg(parent, "circle", { cx: x, cy: y, r: size, ...attributes });
  if (kind === "square") return svg(parent, "rect", { x: x - size * 0.9, y: y - size * 0.9, width: size * 1.8, height: size * 1.8, ...attributes });
  const d = size * 1.25;
  return svg(parent, "path", { d: `M${x} ${y - d}l${d} ${d}l${-d} ${d}l${-d} ${-d}z`, ...attributes });
}

function drawAxes(layer, entries) {
  const [low, high, step] = scoreRange(entries.filter((entry) => entry.score !== null).map((entry) => entry.score));
  svg(layer, "text", { x: 20, y: 14, class: "soft" }, "score");
  for (let value = low; value <= high; value += step) {
    const y = PLOT.bottom - ((PLOT.bottom - PLOT.top) * (value - low)) / (high - low);
    svg(layer, "line", { x1: PLOT.left, x2: 980, y1: y, y2: y, class: "grid" });
    svg(layer, "text", { x: PLOT.left - 8, y: y + 5, "text-anchor": "end", class: "soft" }, String(value));
  }
  for (const billions of [7, 70, 405]) {
    const x = xOf(billions * 1e9);
    svg(layer, "line", { x1: x, x2: x, y1: PLOT.bottom, y2: PLOT.bottom + 6, class: "tick" });
    svg(layer, "text", { x, y: PLOT.bottom + 22, "text-anchor": "middle", class: "soft" }, `${billions}B`);
  }
  svg(layer, "text", { x: (PLOT.left + PLOT.right) / 2, y: PLOT.bottom + 42, "text-anchor": "middle" }, "parameters, as the name says (log axis)");
  svg(layer, "text", { x: PLOT.strip - 10, y: PLOT.bottom + 24 }, "no size published,");
  svg(layer, "text", { x: PLOT.strip - 10, y: PLOT.bottom + 42 }, "or not in the name");
  svg(layer, "rect", { x: PLOT.strip - 22, y: 2, width: 258, height: PLOT.bottom + 50, class: "strip" });
}

const labelOf = (entry) => `${entry.model} ${entry.score.toFixed(1)}${entry.mark ? "*" : ""}`;

const signed = (value) => value === null ? "–" : (value > 0 ? "+" : value < 0 ? "−" : "±") + Math.abs(value).toFixed(1);

const wide = (entry) => 9 * labelOf(entry).length;

// Would a short number ending there hide no label?
export function isFree(points, right, y) {
  return !points.some((point) => Math.abs(point.label_y + 5 - y) < 20
    && right > point.label_x - 8 && right < point.label_x + wide(point.entry) + 60);
}

function drawLead(layer, points, rival, ahead) {
  const mine = points.find((point) => point.entry.model === FLAGSHIP);
  const other = points.find((point) => point.entry.model === rival);
  if (!other || ahead === null) return;
  const start = other.x > mine.x ? mine.label_x + wide(mine.entry) : mine.x; // not through the label
  if (other.x > start || other.x < mine.x) svg(layer, "line", { x1: start, y1: mine.y, x2: other.x, y2: mine.y, class: "level" });
  svg(layer, "line", { x1: other.x, y1: other.y, x2: other.x, y2: mine.y, class: "lead" });
  const at = Math.abs(other.y - mine.y) > 30 ? (other.y + mine.y) / 2 + 6 : Math.min(other.y, mine.y) - 10;
  const left = other.x < 300; // beside the axis there is no room to the left
  if (isFree(points, other.x + (left ? 74 : -14), at)) {
    svg(layer, "text", { x: other.x + (left ? 14 : -14), y: at, "text-anchor": left ? "start" : "end", class: "points" }, signed(ahead));
  }
}

function drawPoint(layer, point, chosen) {
  const { entry, x, y, label_x, label_y } = point;
  const group = svg(layer, "g", { class: chosen ? "chosen" : "", "data-model": entry.model });
  svg(group, "line", { x1: x + 8, y1: y, x2: label_x - 3, y2: label_y - 1, class: "leader" });
  shape(group, KINDS[entry.kind][0], x, y, chosen ? 9.5 : 8, { class: `mark ${entry.kind}` });
  svg(group, "text", { x: label_x, y: label_y + 5 }, labelOf(entry));
}

function drawAll(layer, entries, rival) {
  layer.replaceChildren();
  const points = place(entries);
  drawAxes(layer, entries);
  const llamas = points.filter((point) => point.entry.kind === "llama").sort((a, b) => a.x - b.x);
  svg(layer, "path", { d: "M" + llamas.map((point) => `${point.x} ${point.y}`).join("L"), class: "family" });
  drawLead(layer, points, rival, leadOf(entries, rival));
  const chosen = (point) => [rival, FLAGSHIP].includes(point.entry.model);
  for (const point of [...points].sort((a, b) => chosen(a) - chosen(b))) drawPoint(layer, point, chosen(point));
  Object.entries(KINDS).forEach(([kind, [form, words]], i) => {
    shape(layer, form, 70 + 230 * i, 444, 7, { class: `mark ${kind}` });
    svg(layer, "text", { x: 84 + 230 * i, y: 449 }, words);
  });
}

const sizeText = (entry) => entry.parameters !== null ? `${Math.round(entry.parameters / 1e9)}B`
  : entry.kind === "closed" ? "not published" : "not in the name";

const tableRows = (entries) => entries.map((entry) => ({
  model: entry.model, score: entry.score === null ? "–" : entry.score.toFixed(1),
  "405B ahead by": entry.model === FLAGSHIP ? "" : signed(leadOf(entries, entry.model)), weights: entry.kind === "closed" ? "closed" : "open",
  parameters: sizeText(entry), note: entry.mark,
}));

function footnotes(entries) {
  const marked = entries.filter((entry) => entry.mark).map((entry) => `* ${entry.model}: ${entry.mark}`);
  const missing = entries.filter((entry) => entry.score === null).map((entry) => entry.model);
  return [...marked, ...(missing.length ? [`No score printed: ${missing.join(", ")}`] : [])].join(". ");
}

function render({ model, el }) {
  const rows = model.get("rows");
  const view = frame(el, { title: "", name: "landscape" });
  const bench = choice(model, view.controls, "benchmark", "benchmark", Object.keys(rows).map((name) => [name, name]));
  const pick = choice(model, view.controls, "rival", "compare the 405B with", model.get("rivals").map((name) => [name, name]));
  const { plot, describe } = picture(view.root, { width: 1000, height: 458 });
  plot.setAttribute("viewBox", "18 0 964 458");
  const layer = svg(plot, "g");
  const record = node(view.root, "p", { class: "l3-note record" });
  const notes = node(view.root, "p", { class: "l3-note" });
  const table = tableTwin(view.root, "One row of Table 2 (§1); Llama 3 means Llama 3.1 here");

  const draw = () => {
    const benchmark = model.get("benchmark"), rival = model.get("rival"), entries = rows[benchmark];
    const title = headline(benchmark, entries, rival);
    drawAll(layer, entries, rival);
    view.setTitle(title);
    view.root.dataset.lead = String(leadOf(entries, rival));
    describe(title, entries.filter((entry) => entry.score !== null).map((entry) => `${entry.model} ${entry.score}`).join("; "));
    record.textContent = model.get("records")[rival];
    notes.textContent = footnotes(entries);
    table(tableRows(entries));
    view.say(`${title}. ${record.textContent}.`);
    drawn(view.root);
  };
  model.on("change:benchmark", draw);
  model.on("change:rival", draw);
  draw();
  return () => {
    model.off("change:benchmark", draw);
    model.off("change:rival", draw);
    bench.stop(); pick.stop(); view.stop();
  };
}

export default { render };
