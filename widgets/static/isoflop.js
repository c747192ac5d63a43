// IsoFLOP explorer. Pure functions first (tested in node against Python), drawing last.

const PLOT = { x: 72, y: 34, width: 904, height: 350 };

export function three(value, digits = 3) {
  return Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 20 });
}

export const percent = (share) => share >= 1e-4 ? `${three(100 * share, 2)}%` : "under 0.01%";

// Straight lines between points (x upwards), flat beyond the ends.
export function between(x, xs, ys) {
  if (x <= xs[0]) return ys[0];
  const i = xs.findIndex((one) => x <= one);
  if (i < 0) return ys.at(-1);
  return ys[i - 1] + ((ys[i] - ys[i - 1]) * (x - xs[i - 1])) / (xs[i] - xs[i - 1]);
}

const logs = (values) => values.map(Math.log);
const tokensOf = (curve, size) => Math.exp(between(Math.log(size), logs(curve.sizes), logs(curve.tokens)));

function sizeOf(curve, tokens) {
  const pairs = curve.tokens.map((read, i) => [read, curve.sizes[i]]).sort((a, b) => a[0] - b[0]);
  return Math.exp(between(Math.log(tokens), logs(pairs.map((pair) => pair[0])), logs(pairs.map((pair) => pair[1]))));
}

const valleyOf = (curve, axis) => curve[`${axis}_valley`];
const lossAt = (valley, at) => valley.lowest + valley.bend * Math.log(at / valley.best) ** 2;

export function flatOf(valley, share) {
  const away = Math.sqrt((share * valley.lowest) / valley.bend);
  return [valley.best * Math.exp(-away), valley.best * Math.exp(away)];
}

// The model at a stop of the slider: 0 is the smallest size tried, the last one the largest.
export function dotOf(facts, curve, axis, stop) {
  const first = curve.sizes[0], parameters = first * (curve.sizes.at(-1) / first) ** (stop / facts.stops);
  const tokens = tokensOf(curve, parameters), valley = valleyOf(curve, axis), at = axis === "tokens" ? tokens : parameters;
  const loss = lossAt(valley, at), above = loss - valley.lowest;
  return { parameters, tokens, at, loss, above, share: above / valley.lowest };
}

export function headline(facts, curve, axis, stop) {
  const it = dotOf(facts, curve, axis, stop), valley = valleyOf(curve, axis), ratio = it.at / valley.best;
  const where = `At ${flopsText(curve.budget)} FLOPs`;
  if (!valley.inside) return `${where} the lowest point lies outside the sizes tried: add models beyond`;
  const [has, word, kind] = axis === "tokens" ? ["run reads", "with ", "as many"] : ["model has", "", "as large"];
  const times = Math.abs(Math.log(ratio)) > 0.05 ? `${three(ratio, 2)} times ${kind}` : `about ${kind}`;
  return `${where} the best ${has} ${withUnit(valley.best)} ${axis}; yours, ${word}${times}, costs ${percent(it.share)} more loss`;
}

export function notes(facts, curve, axis, stop) {
  const it = dotOf(facts, curve, axis, stop), valley = valleyOf(curve, axis), [low, high] = flatOf(valley, facts.flat);
  const simple = curve.budget / (6 * it.parameters), same = Math.abs(Math.log(simple / it.tokens)) < 0.01;
  const paper = "The paper's curves get flatter with more compute (§3.2.1).";
  const sure = valley.low === null
    ? "With the noise of these runs the lowest point could be anywhere."
    : `The lowest point lies between ${withUnit(valley.low)} and ${withUnit(valley.high)} ${axis} (95% interval).`;
  const rule = `${withUnit(simple)}, for it is meant for large models`;
  return [
    `Yours: ${withUnit(it.parameters)} parameters on ${withUnit(it.tokens)} tokens, ${three(it.tokens / it.parameters, 2)} tokens for each parameter. Its loss by the parabola: ${it.loss.toFixed(3)} nats, ${it.above.toFixed(3)} above the lowest.`,
    `The valley's floor: from ${withUnit(low)} to ${withUnit(high)} ${axis}, a factor of ${three(high / low, 2)}, the loss is at most ${percent(facts.flat)} above the lowest.`,
    `${sure} ${paper}`,
    `Its tokens are read off between those of the runs. The rule C / (6 · N) says ${same ? "the same" : rule}.`,
  ];
}

const placeOf = (run, axis) => run[axis === "tokens" ? 1 : 0];

export function tableRows(facts, chosen, axis, stop) {
  const rows = [];
  for (const curve of facts.curves) {
    const valley = valleyOf(curve, axis), points = curve.runs.map(([size, tokens, loss, stored]) => [stored ? "stored run" : "run", size, tokens, loss]);
    if (curve.budget === chosen.budget) {
      const it = dotOf(facts, curve, axis, stop);
      points.push(["yours", it.parameters, it.tokens, it.loss]);
    }
    const pair = axis === "tokens" ? [sizeOf(curve, valley.best), valley.best] : [valley.best, tokensOf(curve, valley.best)];
    if (valley.inside) points.push(["lowest point", ...pair, valley.lowest]);
    for (const [point, size, tokens, loss] of points) {
      rows.push({
        FLOPs: flopsText(curve.budget), point, parameters: withUnit(size), tokens: withUnit(tokens),
        "tokens per parameter": three(tokens / size, 2), loss: loss.toFixed(3), "above the lowest": (loss - valley.lowest).toFixed(3),
        [`within 1% (${axis})`]: point === "lowest point" ? flatOf(valley, facts.flat).map((v) => withUnit(v)).join(" to ") : "",
      });
    }
  }
  return rows;
}

// What the picture spans: least and most of the axis, then of the loss.
export function endsOf(facts, axis) {
  const runs = facts.curves.flatMap((curve) => curve.runs), places = runs.map((run) => placeOf(run, axis));
  const inside = facts.curves.map((curve) => valleyOf(curve, axis)).filter((valley) => valley.inside);
  const losses = [...runs.map((run) => run[2]), ...inside.map((valley) => valley.lowest)];
  const low = Math.min(...losses), high = Math.max(...losses), margin = high - low || 0.1;
  return [Math.min(...places), Math.max(...places), low - 0.12 * margin, high + 0.05 * margin];
}

export function roundMarks(low, high) {
  const marks = [], digits = high / low > 1e4 ? [1] : [1, 2, 5];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const m of digits) marks.push(Number(`${m}e${power}`));
  }
  return marks.filter((mark) => low <= mark && mark <= high);
}

export function lossStep(low, high) {
  const steps = [-4, -3, -2, -1, 0, 1, 2, 3].flatMap((power) => [1, 2, 5].map((m) => Number(`${m}e${power}`)));
  return steps.find((step) => (high - low) / step <= 7) ?? steps.at(-1);
}

function spotter(facts, axis) {
  const [least, most, low, high] = endsOf(facts, axis);
  return (at, loss) => [
    PLOT.x + 20 + ((PLOT.width - 130) * Math.log(at / least)) / Math.log(most / least),
    PLOT.y + PLOT.height * (1 - (loss - low) / (high - low)),
  ];
}

function drawAxes(layer, facts, axis) {
  const [least, most, low, high] = endsOf(facts, axis), spot = spotter(facts, axis), bottom = PLOT.y + PLOT.height;
  const step = lossStep(low, high), digits = Math.max(1, Math.ceil(-Math.log10(step) - 1e-9));
  svg(layer, "text", { x: 12, y: PLOT.y - 14, class: "soft" }, "loss on held-out text, nats a token");
  for (let i = Math.ceil(low / step); i * step <= high; i++) {
    const y = spot(least, i * step)[1];
    svg(layer, "line", { x1: PLOT.x, x2: PLOT.x + PLOT.width, y1: y, y2: y, class: "grid" });
    svg(layer, "text", { x: PLOT.x - 8, y: y + 5, "text-anchor": "end", class: "soft" }, (i * step).toFixed(digits));
  }
  for (const mark of roundMarks(least / 1.05, most * 1.05)) {
    const x = spot(mark, low)[0];
    svg(layer, "line", { x1: x, x2: x, y1: PLOT.y, y2: bottom, class: "grid" });
    svg(layer, "text", { x, y: bottom + 22, "text-anchor": "middle", class: "soft" }, withUnit(mark));
  }
  svg(layer, "text", { x: PLOT.x + PLOT.width / 2, y: bottom + 46, "text-anchor": "middle" }, `${axis}, log axis; each curve is one budget of FLOPs`);
  svg(layer, "rect", { ...PLOT, class: "border" });
}

function drawPoint(layer, [x, y], stored, strong, words) {
  const kind = `${stored ? "stored" : "run"}${strong ? " strong" : ""}`;
  const mark = stored ? svg(layer, "rect", { x: x - 5, y: y - 5, width: 10, height: 10, class: kind }) : svg(layer, "circle", { cx: x, cy: y, r: 5, class: kind });
  if (words) svg(mark, "title", {}, words);
}

function drawCross(layer, x, y) {
  const d = `M${x - 7} ${y - 7}l14 14m0 -14l-14 14`;
  svg(layer, "path", { d, class: "edge" });
  svg(layer, "path", { d, class: "lowest" });
}

const drawDot = (layer, x, y, r) => svg(layer, "path", { d: `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`, class: "dot" });

function drawCurve(layer, facts, curve, axis, strong) {
  const spot = spotter(facts, axis), valley = valleyOf(curve, axis), tried = axis === "tokens" ? curve.tokens : curve.sizes;
  const low = Math.min(...tried), high = Math.max(...tried), [left, right] = flatOf(valley, facts.flat);
  const line = (from, to, kind) => {
    const places = Array.from({ length: 61 }, (_, i) => from * (to / from) ** (i / 60));
    svg(layer, "polyline", { class: kind, points: places.map((at) => spot(at, lossAt(valley, at)).map((v) => v.toFixed(1)).join(",")).join(" ") });
  };
  if (strong && Math.max(low, left) < Math.min(high, right)) line(Math.max(low, left), Math.min(high, right), "flat");
  line(low, high, strong ? "curve strong" : "curve");
  for (const run of curve.runs) {
    const words = `${withUnit(run[0])} parameters, ${withUnit(run[1])} tokens: ${run[2].toFixed(3)}`;
    drawPoint(layer, spot(placeOf(run, axis), run[2]), run[3], strong, words);
  }
  if (valley.inside) drawCross(layer, ...spot(valley.best, valley.lowest));
  const [x, y] = spot(high, lossAt(valley, high));
  svg(layer, "text", { x: x + 12, y: y + 5, class: strong ? "name" : "soft" }, `${flopsText(curve.budget)} FLOPs`);
}

// From the lowest level up to the dot.
function drawGauge(layer, facts, curve, axis, stop) {
  const spot = spotter(facts, axis), valley = valleyOf(curve, axis), it = dotOf(facts, curve, axis, stop), [x, y] = spot(it.at, it.loss);
  if (valley.inside) {
    const [start, level] = spot(valley.best, valley.lowest), right = PLOT.x + PLOT.width - 14;
    svg(layer, "line", { x1: start, x2: x, y1: level, y2: level, class: "level" });
    svg(layer, "line", { x1: x, x2: x, y1: level, y2: y, class: "gauge" });
    const words = `yours: ${it.above.toFixed(3)} nats (${percent(it.share)}) above the lowest`;
    svg(layer, "text", { x: right, y: PLOT.y + 28, "text-anchor": "end", class: "name" }, words);
  }
  drawDot(layer, x, y, 10);
}

function drawLegend(layer, facts) {
  const { x } = PLOT, y = PLOT.y + PLOT.height + 74, words = (at, text) => svg(layer, "text", { x: x + at, y: y + 5 }, text);
  drawPoint(layer, [x + 6, y], false, false);
  words(18, "run");
  if (facts.curves.some((curve) => curve.runs.some((run) => run[3]))) {
    drawPoint(layer, [x + 76, y], true, false);
    words(88, "stored run");
  }
  drawCross(layer, x + 196, y);
  words(210, "lowest point of a parabola");
  drawDot(layer, x + 440, y, 9);
  words(456, "yours");
  svg(layer, "line", { x1: x + 528, x2: x + 558, y1: y, y2: y, class: "flat" });
  words(568, "at most 1% above the lowest loss");
}

function render({ model, el }) {
  const facts = model.get("facts");
  const view = frame(el, { title: "", name: "isoflop" });
  const chosen = () => facts.curves.find((curve) => curve.budget === model.get("budget"));
  const sizeText = (stop) => `${withUnit(dotOf(facts, chosen(), "parameters", stop).parameters)} parameters`;
  const budgets = slider(model, view.controls, "budget", "budget", { stops: facts.curves.map((curve) => curve.budget), text: (flops) => `${flopsText(flops)} FLOPs` });
  const sizes = slider(model, view.controls, "stop", "size", { max: facts.stops, text: sizeText });
  const axes = choice(model, view.controls, "axis", "axis", [["parameters", "parameters"], ["tokens", "tokens (as Fig. 2)"]]);
  const { plot, describe } = picture(view.root, { width: 1000, height: 472 });
  const layer = svg(plot, "g"), list = node(view.root, "ul", { class: "l3-note" });
  const table = tableTwin(view.root, "Each budget's runs and lowest point, in nats a token");
  let calm = null;

  const draw = () => {
    const curve = chosen(), axis = model.get("axis"), stop = model.get("stop");
    const title = headline(facts, curve, axis, stop), told = notes(facts, curve, axis, stop), it = dotOf(facts, curve, axis, stop);
    layer.replaceChildren();
    drawAxes(layer, facts, axis);
    for (const other of facts.curves) if (other !== curve) drawCurve(layer, facts, other, axis, false);
    drawCurve(layer, facts, curve, axis, true);
    drawGauge(layer, facts, curve, axis, stop);
    drawLegend(layer, facts);
    list.replaceChildren();
    for (const line of told) node(list, "li", {}, line);
    sizes.setMax(facts.stops); // the same stop is another size at another budget
    view.setTitle(title);
    describe(title, told.join(" "));
    clearTimeout(calm); // the table may follow the picture
    calm = setTimeout(() => table(tableRows(facts, curve, axis, stop)), 150);
    view.root.dataset.budget = flopsText(curve.budget);
    view.root.dataset.size = it.parameters.toExponential(6);
    view.root.dataset.loss = it.loss.toFixed(6);
    view.root.dataset.axis = axis;
    view.say(`${title}.`);
    drawn(view.root);
  };
  const stop = redrawn(model, ["budget", "stop", "axis"], draw, [budgets, sizes, axes, view]);
  return () => { clearTimeout(calm); stop(); };
}

export default { render };
