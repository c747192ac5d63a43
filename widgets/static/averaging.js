// Means of checkpoints. Pure functions first (tested in node against Python), drawing last.

const UPPER = { x: 84, y: 40, width: 890, height: 150 };
const LOWER = { x: 84, y: 262, width: 890, height: 150 };

// The point whose first number is nearest; the first one of two.
export function nearest(points, value) {
  return points.reduce((best, point) => (Math.abs(point[0] - value) < Math.abs(best[0] - value) ? point : best));
}

export const nats = (value) => value.toFixed(value >= 0.01 ? 2 : 3);

export function headline(name, means, k) {
  const [count, loss] = nearest(means, k), gain = means[0][1] - loss;
  if (count === 1) return `${name}: the last checkpoint alone has a loss of ${loss.toFixed(2)} nats`;
  const mean = `the mean of ${count} checkpoints is`;
  if (Math.abs(gain) < 0.0005) return `${name}: no gain, ${mean} as good as the last one alone`;
  const better = `${nats(Math.abs(gain))} nats ${gain > 0 ? "better" : "worse"} than the last one alone`;
  return gain > 0 ? `${name}: ${mean} ${better}` : `${name}: no gain, ${mean} ${better}`;
}

export function lineWords(line, share) {
  const [at, loss] = nearest(line, share), lower = Math.min(line[0][1], line.at(-1)[1]);
  const side = loss < lower ? "below" : loss > lower ? "above" : "level with";
  const how = loss !== lower ? `${nats(Math.abs(loss - lower))} nats ${side}` : side;
  return `at ${at.toFixed(2)} of the way the loss is ${loss.toFixed(3)}, ${how} the better end`;
}

// One range of losses for all plots, with a margin of a tenth.
export function lossRange(series) {
  const losses = Object.values(series).flatMap((one) => [...one.line, ...one.means]).map((point) => point[1]);
  const low = Math.min(...losses), high = Math.max(...losses), margin = 0.1 * (high - low) || 0.1;
  return [low - margin, high + margin];
}

export function lossTicks(low, high, most = 5) {
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = [1, 2, 5, 10].map((m) => power * m).find((size) => (high - low) / size <= most), marks = [];
  for (let i = Math.ceil(low / step); i <= Math.floor(high / step); i++) marks.push(step * i);
  return marks;
}

export function tableRows(chosen) {
  const alone = chosen.means[0][1], rows = [];
  const row = (weights, loss) => {
    const gain = alone - loss, sign = gain < 0 || Object.is(gain, -0) ? "-" : "+";
    rows.push({ weights, loss: loss.toFixed(4), "better than the last": `${sign}${Math.abs(gain).toFixed(4)}` });
  };
  for (const [at, loss] of chosen.line) row(`share ${at.toFixed(2)} of the way`, loss);
  for (const [k, loss] of chosen.means) row(`mean of the last ${k}`, loss);
  return rows;
}

// Where a point stands in a plot that all series share.
function placer(box, series, part, ends) {
  const all = Object.values(series).flatMap((one) => one[part]).map((point) => point[0]);
  const first = Math.min(...all), last = Math.max(...all);
  return ([at, loss]) => [
    box.x + (box.width * (at - first)) / (last - first || 1), box.y + box.height * (1 - (loss - ends[0]) / (ends[1] - ends[0])),
  ];
}

function drawFrame(layer, box, place, ends, words, marks) {
  svg(layer, "text", { x: 20, y: box.y - 16, class: "soft" }, words);
  for (const loss of lossTicks(...ends)) {
    const y = place([marks[0], loss])[1];
    svg(layer, "line", { x1: box.x, x2: box.x + box.width, y1: y, y2: y, class: "grid" });
    svg(layer, "text", { x: box.x - 10, y: y + 5, "text-anchor": "end", class: "soft" }, String(Number(loss.toPrecision(4))));
  }
  for (const mark of marks) svg(layer, "text", { x: place([mark, 0])[0], y: box.y + box.height + 24, "text-anchor": "middle", class: "soft" }, String(mark));
}

const curve = (layer, place, points, kind) =>
  svg(layer, "polyline", { class: kind, points: points.map((point) => place(point).map((v) => v.toFixed(1)).join(",")).join(" ") });

function drawChosen(layer, place, point, box) {
  const [x, y] = place(point), left = x > box.x + box.width - 80;
  svg(layer, "circle", { cx: x, cy: y, r: 8.5, class: "chosen" });
  svg(layer, "text", { x: x + (left ? -14 : 14), y: y - 12, "text-anchor": left ? "end" : "start", class: "value" }, point[1].toFixed(3));
}

function drawAll(layer, series, name, share, k) {
  layer.replaceChildren();
  const ends = lossRange(series), others = Object.entries(series).filter(([other]) => other !== name), { line, means } = series[name];
  const upper = placer(UPPER, series, "line", ends), lower = placer(LOWER, series, "means", ends);
  drawFrame(layer, UPPER, upper, ends, "loss in nats, by share of the way between two checkpoints", [0, 0.5, 1]);
  drawFrame(layer, LOWER, lower, ends, "loss in nats, by how many of the last checkpoints are averaged", means.map(([count]) => count));
  for (const [, one] of others) { curve(layer, upper, one.line, "other"); curve(layer, lower, one.means, "other"); }
  curve(layer, upper, line, "curve");
  for (const end of [line[0], line.at(-1)]) {
    const [x, y] = upper(end);
    svg(layer, "rect", { x: x - 6, y: y - 6, width: 12, height: 12, class: "end" });
  }
  const alone = lower(means[0])[1];
  svg(layer, "line", { x1: LOWER.x, x2: LOWER.x + LOWER.width, y1: alone, y2: alone, class: "alone" });
  svg(layer, "text", { x: LOWER.x + LOWER.width, y: LOWER.y - 16, "text-anchor": "end" }, `dotted: the last one alone, ${means[0][1].toFixed(3)}`);
  curve(layer, lower, means, "curve");
  for (const point of means) { const [x, y] = lower(point); svg(layer, "circle", { cx: x, cy: y, r: 4, class: "dot" }); }
  drawChosen(layer, upper, nearest(line, share), UPPER);
  drawChosen(layer, lower, nearest(means, k), LOWER);
  const words = others.length ? `solid: ${name} · dashed: ${others.map(([other]) => other).join(", ")}` : `solid: ${name}`;
  svg(layer, "text", { x: UPPER.x + UPPER.width, y: UPPER.y - 16, "text-anchor": "end" }, words);
}

function render({ model, el }) {
  const series = model.get("points"), chosen = () => series[model.get("series")];
  const view = frame(el, { title: "", name: "averaging" });
  const which = choice(model, view.controls, "series", "series", Object.keys(series).map((name) => [name, name]));
  const stops = (part) => chosen()[part].map(([at]) => at);
  const way = slider(model, view.controls, "share", "share of the way", { stops: stops("line"), text: (v) => v.toFixed(2) });
  const count = slider(model, view.controls, "k", "checkpoints averaged", { stops: stops("means"), text: String });
  const { plot, describe } = picture(view.root, { width: 1000, height: 448 });
  const layer = svg(plot, "g"), note = node(view.root, "p", { class: "l3-note" });
  const table = tableTwin(view.root, "Losses in nats");

  const draw = () => {
    const name = model.get("series"), share = model.get("share"), k = model.get("k"), { line, means } = chosen();
    const title = headline(name, means, k);
    drawAll(layer, series, name, share, k);
    note.textContent = `On the line, ${lineWords(line, share)}.`;
    view.setTitle(title);
    describe(title, note.textContent);
    table(tableRows(chosen()));
    view.root.dataset.gain = (means[0][1] - nearest(means, k)[1]).toFixed(6);
    view.root.dataset.loss = nearest(line, share)[1].toFixed(6);
    view.say(`${title}. ${note.textContent}`);
    drawn(view.root);
  };
  const changed = () => { way.setStops(stops("line")); count.setStops(stops("means")); draw(); };
  model.on("change:series", changed); model.on("change:share", draw); model.on("change:k", draw);
  draw();
  return () => {
    model.off("change:series", changed); model.off("change:share", draw); model.off("change:k", draw);
    which.stop(); way.stop(); count.stop(); view.stop();
  };
}

export default { render };
