// A run over the band of other seeds. Pure functions first (tested in node against Python), drawing last.

const OWN = "yours";
const PLOT = { x: 70, y: 30, width: 900, height: 300 };
const STEPS = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 50, 100];
const WORDS = { true: "inside", false: "outside", null: "–" };

// From where to where a block counts as inside: half the band's width more on either side.
export function limits(band) {
  return band.low.map((low, i) => {
    const slack = Math.max((band.high[i] - low) / 2, 0.01);
    return [low - slack, band.high[i] + slack];
  });
}

export function judged(band, means) {
  const ends = limits(band);
  return means.slice(0, ends.length).map((mean, i) => (mean === null ? null : ends[i][0] <= mean && mean <= ends[i][1]));
}

export function headline(band, name, means) {
  const found = judged(band, means).filter((one) => one !== null), inside = found.filter(Boolean).length;
  if (!found.length) return `The band of ${band.seeds} runs of ${band.recipe}; no block of ${name} yet`;
  return `${name}: ${inside} of ${found.length} blocks are inside the band (${Math.floor((100 * inside) / found.length + 0.5)}%)`;
}

export function lossMarks(low, high, scale) {
  if (scale === "log") {
    const marks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const m of [1, 2, 3, 5, 7]) marks.push(m * 10 ** power);
    }
    return marks.filter((mark) => low <= mark && mark <= high);
  }
  const step = STEPS.find((size) => (high - low) / size <= 8) ?? STEPS.at(-1), marks = [];
  for (let i = Math.ceil(low / step); i <= Math.floor(high / step); i++) marks.push(step * i);
  return marks;
}

export function axisEnds(band, runs, scale) {
  const losses = Object.values(runs).flatMap((means) => means.slice(0, band.steps.length)).filter((loss) => loss !== null);
  const low = [...band.low, ...losses].reduce((a, b) => Math.min(a, b)), high = [...band.high, ...losses].reduce((a, b) => Math.max(a, b));
  if (scale === "linear") return [0, 1.05 * high];
  const edge = limits(band).map((pair) => pair[0]).reduce((a, b) => Math.min(a, b));
  return [Math.max(0.97 * Math.min(edge, low), 0.6 * low, 1e-4), 1.07 * high];
}

export function along(loss, low, high, scale) {
  const kept = Math.min(Math.max(loss, low), high);
  return scale === "log" ? Math.log(kept / low) / Math.log(high / low) : (kept - low) / (high - low);
}

export function tableRows(band, means) {
  const ok = judged(band, means), shown = (loss) => (loss === null || loss === undefined ? "–" : loss.toFixed(3));
  return band.steps.map((step, i) => ({
    step: thousands(step), low: shown(band.low[i]), mean: shown(band.mean[i]), high: shown(band.high[i]),
    yours: shown(means[i]), inside: WORDS[ok[i] ?? null],
  }));
}

const spotter = (band, ends, scale) => (step, loss) => [
  PLOT.x + (PLOT.width * step) / band.steps.at(-1), PLOT.y + PLOT.height * (1 - along(loss, ...ends, scale)),
];

function drawAxes(layer, band, ends, scale, spot) {
  const low = PLOT.y + PLOT.height;
  svg(layer, "text", { x: PLOT.x - 50, y: 16, class: "soft" }, `loss in nats a token, ${scale} axis`);
  for (const mark of lossMarks(...ends, scale)) {
    const y = spot(0, mark)[1];
    svg(layer, "line", { x1: PLOT.x, x2: PLOT.x + PLOT.width, y1: y, y2: y, class: "grid" });
    svg(layer, "text", { x: PLOT.x - 8, y: y + 5, "text-anchor": "end", class: "soft" }, String(Number(mark.toPrecision(6))));
  }
  for (let i = 0; i <= 4; i++) {
    const step = (band.steps.at(-1) * i) / 4;
    svg(layer, "text", { x: spot(step, 1)[0], y: low + 22, "text-anchor": "middle", class: "soft" }, thousands(step));
  }
  svg(layer, "text", { x: PLOT.x + PLOT.width / 2, y: low + 46, "text-anchor": "middle" }, "step");
}

function drawMark(layer, kind, [x, y], words) {
  const mark = kind === "outside" ? svg(layer, "path", { d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }) : svg(layer, "circle", { cx: x, cy: y, r: 5.5 });
  mark.setAttribute("class", kind);
  if (words) svg(mark, "title", {}, words);
}

function drawLegend(layer) {
  const y = PLOT.y + PLOT.height + 76, all = [["inside", "inside"], ["outside", "outside"], ["now", "block under way"]];
  all.forEach(([kind, words], i) => {
    drawMark(layer, kind, [PLOT.x + 6 + 105 * i, y]);
    svg(layer, "text", { x: PLOT.x + 20 + 105 * i, y: y + 5 }, words);
  });
  const seeds = PLOT.x + 378, limit = PLOT.x + 646;
  svg(layer, "rect", { x: seeds, y: y - 8, width: 22, height: 16, class: "seeds" });
  svg(layer, "line", { x1: seeds, x2: seeds + 22, y1: y, y2: y, class: "mean" });
  svg(layer, "text", { x: seeds + 30, y: y + 5 }, "other seeds and their mean");
  svg(layer, "line", { x1: limit, x2: limit + 24, y1: y, y2: y, class: "limit" });
  svg(layer, "text", { x: limit + 32, y: y + 5 }, "as far as a block is inside");
}

function drawAll(layer, band, runs, name, now, scale) {
  layer.replaceChildren();
  const ends = axisEnds(band, runs, scale), spot = spotter(band, ends, scale), means = runs[name] || [];
  const spots = (losses) => band.steps.map((step, i) => [step, losses[i]]).filter(([, loss]) => loss !== null && loss !== undefined)
    .map(([step, loss]) => spot(step, loss).map((v) => v.toFixed(1)).join(","));
  const both = (low, high) => [...spots(low), ...spots(high).reverse()].join(" ");
  drawAxes(layer, band, ends, scale, spot);
  svg(layer, "polygon", { class: "seeds", points: both(band.low, band.high) });
  const edges = limits(band);
  for (const side of [0, 1]) svg(layer, "polyline", { class: "limit", points: spots(edges.map((pair) => pair[side])).join(" ") });
  svg(layer, "polyline", { class: "mean", points: spots(band.mean).join(" ") });
  for (const [other, losses] of Object.entries(runs)) {
    if (other !== name) svg(svg(layer, "polyline", { class: "other", points: spots(losses).join(" ") }), "title", {}, other);
  }
  svg(layer, "polyline", { class: "own", points: spots(means).join(" ") });
  judged(band, means).forEach((ok, i) => {
    if (ok !== null) drawMark(layer, WORDS[ok], spot(band.steps[i], means[i]), `step ${thousands(band.steps[i])}: ${means[i].toFixed(3)}, ${WORDS[ok]}`);
  });
  const live = name === OWN && typeof now.loss === "number" && now.step <= band.steps.at(-1);
  if (live) drawMark(layer, "now", spot(now.step, now.loss), `step ${thousands(now.step)}: ${now.loss.toFixed(3)} so far`);
  drawLegend(layer);
}

function noteOf(name, now, means) {
  if (name !== OWN) return `${means.length} blocks of a finished run`;
  if (!now.step) return "Nothing has run yet: points appear while a trainer tells its steps to this view's on_step";
  const phase = now.phase ? ` (${now.phase})` : "", loss = typeof now.loss === "number" ? `: ${now.loss.toFixed(3)} in the block under way` : "";
  return `step ${thousands(now.step)}${phase}${loss}`;
}

// The list of runs grows while the view is there.
function runChoice(model, parent) {
  const options = [];
  const made = choice(model, parent, "run", "run", options);
  const renew = () => {
    const names = [...new Set([OWN, ...Object.keys(model.get("runs"))])];
    if (names.join("\n") !== options.map(([name]) => name).join("\n")) {
      options.splice(0, options.length, ...names.map((name) => [name, name]));
      made.select.replaceChildren();
      for (const name of names) node(made.select, "option", { value: name }, name);
    }
    made.select.value = model.get("run");
  };
  return { ...made, renew };
}

function render({ model, el }) {
  const band = model.get("band");
  const view = frame(el, { title: "", name: "band" });
  const scales = choice(model, view.controls, "scale", "loss axis", [["log", "log"], ["linear", "linear"]]);
  const which = runChoice(model, view.controls);
  const { plot, describe } = picture(view.root, { width: 1000, height: 424 });
  const layer = svg(plot, "g"), note = node(view.root, "p", { class: "l3-note" });
  const table = tableTwin(view.root, "Losses by block, in nats a token");
  let calm = null, told = "";

  const draw = () => {
    which.renew();
    const runs = model.get("runs"), name = model.get("run"), now = model.get("now"), scale = model.get("scale");
    const means = runs[name] || [], title = headline(band, name, means);
    drawAll(layer, band, runs, name, now, scale);
    note.textContent = noteOf(name, now, means);
    view.setTitle(title);
    describe(title, `${band.steps.length} blocks; ${note.textContent}`);
    clearTimeout(calm); // the table may follow the picture
    calm = setTimeout(() => table(tableRows(band, means)), 150);
    view.root.dataset.points = means.length;
    view.root.dataset.inside = judged(band, means).filter(Boolean).length;
    view.root.dataset.scale = scale;
    if (title !== told) view.say(title); // not each step
    told = title;
    drawn(view.root);
  };
  const traits = ["runs", "run", "now", "scale"];
  for (const trait of traits) model.on(`change:${trait}`, draw);
  draw();
  return () => {
    for (const trait of traits) model.off(`change:${trait}`, draw);
    clearTimeout(calm);
    scales.stop(); which.stop(); view.stop();
  };
}

export default { render };
