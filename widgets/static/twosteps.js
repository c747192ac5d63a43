// FLOPs to loss to accuracy, with points taken away. Python made the fits; pure functions first
// (tested in node against Python), drawing last.

const LEFT = { x: 70, y: 62, width: 400, height: 280 }, RIGHT = { x: 566, y: 62, width: 418, height: 280 };
const LOW = LEFT.y + LEFT.height;
const TITLES = ["Step 1: FLOPs → loss per character", "Step 2: loss per character → accuracy"];

export function sci(value) {
  const [digits, power] = value.toExponential(1).split("e");
  return `${Number(digits)}e${Number(power)}`;
}

export const percent = (share) => `${(100 * share).toFixed(1)}%`;
const to = (low, high) => (low === high ? low : `${low} to ${high}`);

export function nllAt(first, form, flops) {
  const [a, b, floor] = first.curve;
  return form === "line" ? a + b * Math.log(flops) : floor + Math.exp(a + b * Math.log(flops));
}

export function accuracyAt([chance, top, middle, width], nll) {
  return chance + (top - chance) * (0.5 - 0.5 * Math.tanh((nll - middle) / (2 * width)));
}

// The models that step 2 sees.
export function chosen(runs, limit, models) {
  if (models === "others") return runs;
  const most = models === "smallest" ? Math.min(...runs.map((run) => run.budget)) : limit;
  return runs.filter((run) => run.budget <= most && (run.best || models !== "best"));
}

export const trouble = (entry, models, form) => entry.first[form].trouble || entry.second[models].trouble || null;
const toldOf = (entry, models, form) => (entry.told[models] || {})[form] || null;
const topIsOpen = (second) => second.tops.length > 0 && second.tops[0][1] - second.tops.at(-1)[1] > 0.045;

export function measured(facts) {
  const mean = (name) => facts.held.reduce((sum, run) => sum + run[name], 0) / facts.held.length;
  return facts.held.length ? [mean("nll"), mean("accuracy")] : null;
}

export function headline(facts, entry, models, form) {
  const seen = `Seen up to ${sci(entry.limit)} FLOPs`, why = trouble(entry, models, form), real = measured(facts);
  if (why) return `${seen}: no prediction. ${why}`;
  const told = toldOf(entry, models, form), [score, low, high] = told.accuracy;
  let said = `${seen}: predicted ${percent(score)} at ${sci(facts.target)}`;
  const below = entry.first[form].nll[0] < 0;
  if (below) said += ", but through a loss below 0";
  else if (topIsOpen(entry.second[models])) said += ` (${percent(told.by_top[0])} with another top)`;
  else said += low === null || high === null ? " (error unknown)" : ` (${to(percent(low), percent(high))})`;
  return real ? `${said}${below ? ";" : ","} measured ${percent(real[1])}` : said;
}

function stepOne(facts, entry, form) {
  const first = entry.first[form], real = measured(facts);
  if (first.trouble) return `${first.trouble}, and it has ${entry.budgets}.`;
  const kind = form === "floor" ? `A power law with a floor of ${first.curve[2].toFixed(3)} (ours)` : "A line";
  const [score, low, high] = first.nll, known = low !== null && high !== null;
  const span = known ? `${to(low.toFixed(3), high.toFixed(3))} in ${(100 * facts.level).toFixed(0)} of 100 draws` : "error unknown";
  const said = `Step 1. ${kind} through ${entry.points} runs, the best of each of ${entry.budgets} budgets and each seed, says ${score.toFixed(3)} nats a character (${span})`;
  return `${said}${real ? `; measured: ${real[0].toFixed(3)}.` : "."}${score < 0 ? " No loss is below 0: the line has left its range." : ""}`;
}

function topWords(second, told) {
  if (!second.tops.length) return "With fewer than five models nothing can be said of the sigmoid's top.";
  const high = second.tops[0][1], low = second.tops.at(-1)[1], top = second.sigmoid[1];
  const ends = to(`${(100 * low).toFixed(0)}%`, `${(100 * high).toFixed(0)}%`);
  let said = topIsOpen(second) ? `These models do not tell the sigmoid's top: any from ${ends} fits them as well` : `These models tell the sigmoid's top: ${ends}`;
  if (!(low - 0.005 < top && top < high + 0.005)) said += `, not the ${percent(top)} set`;
  return told && topIsOpen(second) ? `${said}. With it, the prediction goes from ${to(...told.by_top.map(percent))}.` : `${said}.`;
}

export function notes(facts, entry, models, form) {
  const second = entry.second[models], real = measured(facts), told = [stepOne(facts, entry, form)];
  if (second.trouble) return [...told, `${second.trouble}.`];
  const [chance, top] = second.sigmoid, ends = `from ${percent(chance)} (guessing) to ${percent(top)} (set, not fitted)`;
  const there = real ? ` At the measured loss it says ${percent(accuracyAt(second.sigmoid, real[0]))}.` : "";
  told.push(`Step 2. A sigmoid ${ends} through ${second.models} models of ${percent(second.span[0])} to ${percent(second.span[1])}.${there}`);
  told.push(topWords(second, toldOf(entry, models, form)));
  if (models === "others") told.push("Models of larger budgets help step 2 and stay out of step 1, as Llama 2's did in the paper.");
  return [...told, facts.assumed];
}

export function tableRows(facts, form) {
  const real = measured(facts), say = (share) => (share === null ? "-" : percent(share));
  return facts.entries.flatMap((entry) => Object.entries(facts.models).map(([models, words]) => {
    const { nll } = entry.first[form], told = toldOf(entry, models, form) || { accuracy: [null, null, null], by_top: null };
    const [score, low, high] = told.accuracy;
    return {
      "seen up to, FLOPs": sci(entry.limit), "models in step 2": words, "predicted nats a character": nll ? nll[0].toFixed(3) : "-",
      "predicted accuracy": score === null ? "too few points" : percent(score), low: say(low), high: say(high),
      "with other tops": told.by_top ? to(...told.by_top.map(percent)) : "-", measured: real ? percent(real[1]) : "-",
    };
  }));
}

// where FLOPs and loss stand on the left, loss and accuracy on the right
function spots(facts, form) {
  const { flops, accuracy } = facts.spans, nll = facts.spans[form], share = ([low, high], value) => (value - low) / (high - low);
  return {
    left: (at, loss) => [LEFT.x + (LEFT.width * Math.log(at / flops[0])) / Math.log(flops[1] / flops[0]), LEFT.y + LEFT.height * (1 - share(nll, loss))],
    right: (loss, part) => [RIGHT.x + RIGHT.width * share(nll, loss), RIGHT.y + RIGHT.height * (1 - share(accuracy, part))],
  };
}

const pairs = (points) => points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
const between = (low, high, count) => Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));

function drawFrame(layer) {
  const words = [["training FLOPs", "nats a character"], ["nats a character", "accuracy"]];
  [LEFT, RIGHT].forEach((box, i) => {
    svg(layer, "text", { x: box.x, y: 18, class: "strong" }, TITLES[i]);
    svg(layer, "text", { x: box.x - 52, y: 48, class: "soft" }, words[i][1]);
    svg(layer, "text", { x: box.x + box.width / 2, y: LOW + 46, "text-anchor": "middle", class: "soft" }, words[i][0]);
  });
}

function drawAxes(layer, facts, form, { left, right }) {
  const [low, high] = facts.spans[form], [begin, end] = facts.spans.flops, line = (x1, x2, y1, y2) => svg(layer, "line", { x1, x2, y1, y2, class: "grid" });
  const label = (x, y, anchor, words) => svg(layer, "text", { x, y, "text-anchor": anchor, class: "soft" }, words);
  if (low < 0) {
    const y = left(begin, 0)[1];
    svg(layer, "rect", { x: LEFT.x, y, width: LEFT.width, height: LOW - y, class: "never" });
    svg(layer, "rect", { x: RIGHT.x, y: RIGHT.y, width: right(0, 1)[0] - RIGHT.x, height: RIGHT.height, class: "never" });
  }
  for (let power = Math.ceil(Math.log10(begin)); 10 ** power < end; power++) {
    const [x] = left(10 ** power, 0);
    line(x, x, LEFT.y, LOW);
    label(x, LOW + 22, "middle", `1e${power}`);
  }
  for (let fifth = Math.ceil(5 * low); fifth <= Math.floor(5 * high); fifth++) {
    const [, y] = left(begin, fifth / 5), [x] = right(fifth / 5, 1), words = (fifth / 5).toFixed(1);
    line(LEFT.x, LEFT.x + LEFT.width, y, y);
    label(LEFT.x - 8, y + 5, "end", words);
    line(x, x, RIGHT.y, LOW);
    label(x, LOW + 22, "middle", words);
  }
  for (let tenth = Math.ceil(10 * facts.spans.accuracy[0]); tenth <= 10; tenth++) {
    const [, y] = right(0, tenth / 10);
    line(RIGHT.x, RIGHT.x + RIGHT.width, y, y);
    label(RIGHT.x - 8, y + 5, "end", `${10 * tenth}%`);
  }
}

function drawLimit(layer, x, below) {
  const near = x < LEFT.x + 144; // too near the edge for words to stand left of the line
  if (below) svg(layer, "text", { x: near ? x + 6 : LEFT.x + 8, y: LOW - 10, class: "soft" }, "no loss is below 0");
  svg(layer, "line", { x1: x, x2: x, y1: LEFT.y, y2: LOW, class: "limit" });
  svg(layer, "text", { x: near ? x + 6 : x - 6, y: LEFT.y + 17, "text-anchor": near ? "start" : "end", class: "soft halo" }, "seen up to here");
}

function drawCurves(layers, facts, entry, models, form, { left, right }) {
  const first = entry.first[form], second = entry.second[models], span = facts.spans;
  const band = (layer, rows, spot) => rows.length && svg(layer, "polygon", {
    class: "band", points: pairs([...rows.map(([x, low]) => spot(x, low)), ...[...rows].reverse().map(([x, , high]) => spot(x, high))]),
  });
  const line = (layer, kind, points) => svg(layer, "polyline", { class: kind, points: pairs(points) });
  if (!first.trouble) {
    band(layers.left, first.band, left);
    line(layers.left, "curve", between(...span.flops.map(Math.log), 60).map(Math.exp).map((x) => left(x, nllAt(first, form, x))));
  }
  if (second.trouble) return;
  const grid = between(...span[form], 80), sigmoid = (way) => grid.map((x) => right(x, accuracyAt(way, x)));
  band(layers.right, second.band, right);
  for (const way of new Set([second.tops[0], second.tops.at(-1)])) if (way) line(layers.right, "top", sigmoid(way));
  line(layers.right, "curve", sigmoid(second.sigmoid));
}

const runWords = (run) => `${sci(run.budget)} FLOPs, ${thousands(run.parameters)} parameters, seed ${run.seed}: ${run.nll.toFixed(3)} nats a character, ${percent(run.accuracy)}`;

function drawPoints(layer, facts, entry, models, { left, right }) {
  const mine = new Set(chosen(facts.runs, entry.limit, models));
  const dot = ([cx, cy], seen, r, words) => svg(svg(layer, "circle", { cx, cy, r, class: seen ? "seen" : "away" }), "title", {}, words);
  for (const run of [...facts.runs].sort((a, b) => mine.has(a) - mine.has(b))) { // those seen on top
    dot(right(run.nll, run.accuracy), mine.has(run), 4.2, runWords(run));
    if (run.best) dot(left(run.flops, run.nll), run.budget <= entry.limit, 5.5, runWords(run));
  }
}

function drawHeld(layer, facts, { left, right }) {
  for (const run of facts.held) {
    for (const [x, y] of [left(run.flops, run.nll), right(run.nll, run.accuracy)]) {
      svg(svg(layer, "rect", { x: x - 4.5, y: y - 4.5, width: 9, height: 9, class: "held" }), "title", {}, `measured: ${runWords(run)}`);
    }
  }
}

function drawPrediction(layer, facts, entry, models, form, { left, right }) {
  const { nll } = entry.first[form], told = toldOf(entry, models, form);
  const bar = (kind, ends) => svg(layer, "polyline", { class: kind, points: pairs(ends) });
  const mark = ([x, y], words) => svg(svg(layer, "path", { d: `M${x} ${y - 9}l9 9l-9 9l-9 -9z`, class: "told" }), "title", {}, words);
  if (!nll) return;
  const known = nll[1] !== null && nll[2] !== null;
  if (known) bar("interval", nll.slice(1).map((value) => left(facts.target, value)));
  mark(left(facts.target, nll[0]), `predicted: ${nll[0].toFixed(3)} nats a character`);
  if (!told) return;
  const [score, low, high] = told.accuracy;
  if (known) bar("interval", nll.slice(1).map((value) => right(value, score)));
  if (low !== null && high !== null) bar("interval", [low, high].map((value) => right(nll[0], value)));
  if (told.by_top) bar("bytop", told.by_top.map((value) => right(nll[0], value)));
  mark(right(nll[0], score), `predicted: ${percent(score)}`);
}

function drawKey(layer, held) {
  const y = LOW + 78, word = (x, words) => svg(layer, "text", { x, y: y + 5 }, words);
  svg(layer, "circle", { cx: 76, cy: y, r: 5.5, class: "seen" });
  word(88, "seen");
  svg(layer, "circle", { cx: 144, cy: y, r: 5.5, class: "away" });
  word(156, "taken away");
  svg(layer, "polyline", { points: `248,${y} 276,${y}`, class: "interval" });
  svg(layer, "path", { d: `M262 ${y - 8}l8 8l-8 8l-8 -8z`, class: "told" });
  word(284, "predicted, with its interval");
  if (held) {
    svg(layer, "rect", { x: 496, y: y - 4.5, width: 9, height: 9, class: "held" });
    word(512, "measured, in no fit");
  }
  svg(layer, "polyline", { points: `664,${y} 700,${y}`, class: "top" });
  word(708, "lowest and highest top that fit as well");
}

function clipped(plot, box) {
  const id = uniqueId("clip");
  svg(svg(plot, "clipPath", { id }), "rect", box);
  return svg(plot, "g", { "clip-path": `url(#${id})` });
}

function render({ model, el }) {
  const facts = model.get("facts"), limits = facts.entries.map((entry) => entry.limit);
  const view = frame(el, { title: "", name: "twosteps" });
  const controls = [
    slider(model, view.controls, "limit", "seen up to", { stops: limits, text: (value) => `${sci(value)} FLOPs` }),
    choice(model, view.controls, "models", "step 2 sees", Object.entries(facts.models)),
    choice(model, view.controls, "form", "step 1 is", Object.entries(facts.forms)),
  ];
  const { plot, describe } = picture(view.root, { width: 1000, height: 436 });
  const back = svg(plot, "g"), layers = { left: clipped(plot, LEFT), right: clipped(plot, RIGHT) }, front = svg(plot, "g");
  const still = svg(plot, "g");
  drawFrame(still);
  drawKey(still, facts.held.length > 0);
  const list = node(view.root, "ul", { class: "l3-note" });
  const table = tableTwin(view.root, "Every largest budget with every choice of models, for the form of step 1 that is chosen");

  const draw = () => {
    const entry = facts.entries[limits.indexOf(model.get("limit"))], models = model.get("models"), form = model.get("form");
    const title = headline(facts, entry, models, form), told = notes(facts, entry, models, form), where = spots(facts, form);
    for (const layer of [back, layers.left, layers.right, front]) layer.replaceChildren();
    drawAxes(back, facts, form, where);
    drawLimit(back, where.left(entry.limit, 0)[0] + 9, facts.spans[form][0] < 0);
    drawCurves(layers, facts, entry, models, form, where);
    drawPoints(front, facts, entry, models, where);
    drawPrediction(front, facts, entry, models, form, where);
    drawHeld(front, facts, where);
    list.replaceChildren();
    for (const line of told) node(list, "li", {}, line);
    view.setTitle(title);
    describe(title, told.join(" "));
    table(tableRows(facts, form));
    const found = toldOf(entry, models, form);
    view.root.dataset.accuracy = found ? found.accuracy[0].toFixed(6) : "none";
    view.root.dataset.seen = chosen(facts.runs, entry.limit, models).length;
    view.say(`${title}.`);
    drawn(view.root);
  };
  return redrawn(model, ["limit", "models", "form"], draw, [...controls, view]);
}

export default { render };
