// Train once, serve many: the cost of one loss over model size. Pure functions first (tested in
// node against Python), drawing last.

const PLOT = { x: 84, y: 92, width: 890, height: 300 };
const LOW = PLOT.y + PLOT.height;
const UNITS = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "K"], [1, ""]];

const three = (value, digits = 3) => value < 1e5 ? Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 20 }) : thousands(value);

export function short(value) {
  const [size, unit] = UNITS.find(([least]) => value >= least) || [1, ""];
  return `${three(value / size)}${unit}`;
}

export function power(value) {
  const [digits, exponent] = value.toExponential(1).split("e");
  return value ? `${Number(digits)}e${Number(exponent)}` : "0";
}

export const lossOf = (law, parameters, tokens) => law.E + law.A * parameters ** -law.alpha + law.B * tokens ** -law.beta;
export const leastSize = (law, loss) => (law.A / (loss - law.E)) ** (1 / law.alpha);

export function tokensFor(law, parameters, loss) {
  const room = loss - law.E - law.A * parameters ** -law.alpha;
  return room > 0 ? (law.B / room) ** (1 / law.beta) : null;
}

export function life(parameters, tokens, served) {
  const training = 6 * parameters * tokens, serving = 2 * parameters * served;
  return { parameters, tokens, training, serving, total: training + serving };
}

// A model of this size that reaches the loss; null if no number of tokens gets it there.
export function atSize(law, parameters, loss, served) {
  const tokens = tokensFor(law, parameters, loss);
  return tokens === null ? null : life(parameters, tokens, served);
}

// How fast tokens fall with size, both in logs.
function steepness(law, parameters, loss) {
  const size = law.A * parameters ** -law.alpha;
  return (law.alpha * size) / (law.beta * (loss - law.E - size));
}

// Where the slope of the whole cost over ln size is 0. It only grows with size: halve the range.
export function cheapest(law, loss, served) {
  const least = Math.log(leastSize(law, loss));
  let low = -40, high = Math.log(60); // of ln(ln size - least)
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2, size = Math.exp(least + Math.exp(middle)), tokens = tokensFor(law, size, loss);
    const falls = tokens === null || tokens * (steepness(law, size, loss) - 1) > served / 3;
    if (falls) low = middle; else high = middle;
  }
  return atSize(law, Math.exp(least + Math.exp(high)), loss, served);
}

// Tokens served with which no other size is cheaper; null if another is, whatever is served.
export function cheapestWhen(law, parameters, loss) {
  const tokens = tokensFor(law, parameters, loss);
  if (tokens === null) return null;
  const served = 3 * tokens * (steepness(law, parameters, loss) - 1);
  return served >= 0 ? served : null;
}

// Tokens served from which on the first is the cheaper one; null if it never is.
export function breakEven(first, second) {
  const ahead = first.training - second.training, saved = 2 * (second.parameters - first.parameters);
  if (ahead <= 0) return saved >= 0 ? 0 : null;
  return saved > 0 ? ahead / saved : null;
}

export function headline(law, loss, served) {
  const best = cheapest(law, loss, served), first = cheapest(law, loss, 0), size = `${short(best.parameters)} parameters cost least`;
  if (!served) return `With no token served ${size}: the cheapest to train`;
  const much = first.parameters / best.parameters, less = much >= 1.05 ? `${three(much, 2)} times fewer than` : "about as many as";
  return `With ${power(served)} tokens served ${size}: ${less} without serving`;
}

function words(it) {
  const each = `${short(it.tokens)} tokens (${three(it.tokens / it.parameters)} a parameter)`;
  return `${short(it.parameters)} on ${each}; training ${power(it.training)} + serving ${power(it.serving)} = ${power(it.total)} FLOPs`;
}

export function notes(law, loss, served, size, source) {
  const best = cheapest(law, loss, served), trained = cheapest(law, loss, 0), first = life(trained.parameters, trained.tokens, served);
  const times = served ? `; ${three(first.total / best.total)} times the cheapest.` : ".", own = atSize(law, size, loss, served);
  const told = [`Cheapest: ${words(best)}.`, `Cheapest to train, Chinchilla's optimum: ${words(first)}${times}`];
  if (!own) return [...told, `Yours: ${short(size)} is too small; no number of tokens brings this loss.`, source];
  const line = `Yours: ${words(own)}; ${three(own.total / best.total)} times the cheapest.`, when = cheapestWhen(law, size, loss);
  if (when === null) return [...told, `${line} Larger than the cheapest to train: some smaller size always costs less.`, source];
  return [...told, `${line} Cheaper than Chinchilla's optimum once ${power(breakEven(own, first))} tokens are served; cheapest of all sizes at ${power(when)}.`, source];
}

export function tableRows(law, loss, served, models) {
  const best = cheapest(law, loss, served), trained = cheapest(law, loss, 0);
  const shown = [["cheapest", best.parameters], ["cheapest to train", trained.parameters], ...Object.entries(models)];
  return shown.map(([model, size]) => {
    const it = atSize(law, size, loss, served), say = (value) => (it ? value(it) : "-");
    return {
      model, parameters: short(size), tokens: it ? short(it.tokens) : "never gets there", "tokens a parameter": say((one) => three(one.tokens / one.parameters)),
      "training FLOPs": say((one) => power(one.training)), "serving FLOPs": say((one) => power(one.serving)), "all FLOPs": say((one) => power(one.total)),
      "times the cheapest": say((one) => three(one.total / best.total)),
    };
  });
}

function spotter(sizes, costs) {
  const share = ([low, high], value) => Math.log(value / low) / Math.log(high / low);
  return (parameters, cost) => [PLOT.x + PLOT.width * share(sizes, parameters), PLOT.y + PLOT.height * (1 - share(costs, cost))];
}

const inside = ([x, y]) => [x, Math.max(y, PLOT.y)]; // a cost beyond the picture stands on its edge

function drawAxes(layer, sizes, costs, spot, wall) {
  svg(layer, "rect", { x: PLOT.x, y: PLOT.y, width: wall - PLOT.x, height: PLOT.height, class: "never" });
  for (let exponent = Math.ceil(Math.log10(costs[0])); 10 ** exponent < costs[1]; exponent++) {
    const [, y] = spot(sizes[0], 10 ** exponent);
    svg(layer, "line", { x1: PLOT.x, x2: PLOT.x + PLOT.width, y1: y, y2: y, class: "grid" });
    svg(layer, "text", { x: PLOT.x - 8, y: y + 5, "text-anchor": "end", class: "soft" }, `1e${exponent}`);
  }
  for (let exponent = Math.floor(Math.log10(sizes[0])); 10 ** exponent < sizes[1]; exponent++) {
    for (const value of [10 ** exponent, 3 * 10 ** exponent]) {
      if (value < sizes[0] || value > sizes[1]) continue;
      const [x] = spot(value, costs[0]);
      svg(layer, "line", { x1: x, x2: x, y1: PLOT.y, y2: LOW, class: "grid" });
      svg(layer, "text", { x, y: LOW + 22, "text-anchor": "middle", class: "soft" }, short(value));
    }
  }
  svg(layer, "text", { x: PLOT.x + PLOT.width / 2, y: LOW + 46, "text-anchor": "middle", class: "soft" }, "parameters");
  svg(layer, "text", { x: 20, y: PLOT.y - 8, class: "soft" }, "FLOPs");
  svg(layer, "text", { x: wall - 8, y: LOW - 12, transform: `rotate(-90 ${wall - 8} ${LOW - 12})`, class: "soft" }, "too small for this loss");
  svg(layer, "rect", { ...PLOT, class: "border" });
}

function drawCurves(layer, law, loss, served, largest, spot) {
  const least = leastSize(law, loss), wide = Math.log(largest / least), lives = [];
  for (let i = 0; i < 160; i++) { // close points near the wall, where the costs soar
    const it = atSize(law, least * Math.exp(1e-4 * (wide / 1e-4) ** (i / 159)), loss, served);
    if (it) lives.push(it);
  }
  for (const kind of ["training", "serving", "total"]) {
    const points = lives.map((it) => spot(it.parameters, Math.max(it[kind], 1)).map((at) => at.toFixed(1)).join(","));
    svg(layer, "polyline", { class: kind, points: points.join(" ") });
  }
}

function drawMark(layer, name, it, x, spot) {
  const told = it ? [`needs ${short(it.tokens)} tokens`, `${three(it.tokens / it.parameters)} a parameter`] : ["never gets there"];
  const y = it ? inside(spot(it.parameters, it.total))[1] : LOW;
  svg(layer, "text", { x, y: 20, "text-anchor": "middle", class: "strong" }, name);
  told.forEach((line, i) => svg(layer, "text", { x, y: 41 + 19 * i, "text-anchor": "middle", class: "soft" }, line));
  svg(layer, "line", { x1: x, x2: x, y1: it ? 66 : 48, y2: y, class: "lead" });
  if (it) svg(layer, "rect", { x: x - 5, y: y - 5, width: 10, height: 10, class: "named" });
}

const diamond = (layer, [x, y], r) => svg(layer, "path", { d: `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`, class: "best" });
const triangle = (layer, [x, y]) => svg(layer, "path", { d: `M${x} ${y - 10}l9 16h-18z`, class: "own" });
const ring = (layer, [cx, cy], r) => svg(layer, "circle", { cx, cy, r, class: "first" });

function drawKey(layer) {
  const y = LOW + 76, word = (x, told) => svg(layer, "text", { x, y: y + 5 }, told);
  [["total", "in all", 84], ["training", "training", 180], ["serving", "serving", 296]].forEach(([kind, told, x]) => {
    svg(layer, "polyline", { points: `${x},${y} ${x + 34},${y}`, class: kind });
    word(x + 42, told);
  });
  diamond(layer, [422, y], 9);
  word(438, "cheapest");
  ring(layer, [534, y], 7);
  word(547, "cheapest to train");
  svg(layer, "rect", { x: 700, y: y - 5, width: 10, height: 10, class: "named" });
  word(717, "named sizes");
  triangle(layer, [842, y + 2]);
  word(858, "yours");
}

function render({ model, el }) {
  const facts = model.get("facts"), { law } = facts, names = Object.keys(facts.targets), sizes = facts.ends.size;
  const view = frame(el, { title: "", name: "overtraining" });
  const controls = [
    slider(model, view.controls, "served", "tokens served", { stops: facts.served, text: power }),
    choice(model, view.controls, "target", "to reach", names.map((name) => [name, `${facts.targets[name].loss.toFixed(3)}, ${facts.targets[name].words}`])),
    slider(model, view.controls, "size", "your size", { stops: facts.sizes, text: short }),
  ];
  const { plot, describe } = picture(view.root, { width: 1000, height: 484 });
  const id = uniqueId("clip"), layer = svg(plot, "g");
  svg(svg(plot, "clipPath", { id }), "rect", PLOT);
  const curves = svg(plot, "g", { "clip-path": `url(#${id})` }), front = svg(plot, "g");
  drawKey(svg(plot, "g"));
  const list = node(view.root, "ul", { class: "l3-note" });
  const table = tableTwin(view.root, "One loss with models of several sizes");

  const draw = () => {
    const target = model.get("target"), served = model.get("served"), size = model.get("size");
    const { loss } = facts.targets[target], costs = facts.ends.cost[names.indexOf(target)], spot = spotter(sizes, costs);
    const title = headline(law, loss, served), told = notes(law, loss, served, size, facts.source);
    for (const part of [layer, curves, front]) part.replaceChildren();
    drawAxes(layer, sizes, costs, spot, spot(leastSize(law, loss), costs[0])[0]);
    drawCurves(curves, law, loss, served, sizes[1], spot);
    for (const [name, parameters] of Object.entries(facts.models)) drawMark(front, name, atSize(law, parameters, loss, served), spot(parameters, costs[0])[0], spot);
    const best = cheapest(law, loss, served), first = atSize(law, cheapest(law, loss, 0).parameters, loss, served), own = atSize(law, size, loss, served);
    ring(front, inside(spot(first.parameters, first.total)), 8);
    diamond(front, spot(best.parameters, best.total), 11);
    if (own) triangle(front, inside(spot(own.parameters, own.total)));
    list.replaceChildren();
    for (const line of told) node(list, "li", {}, line);
    view.setTitle(title);
    describe(title, told.join(" "));
    table(tableRows(law, loss, served, { ...facts.models, "your size": size }));
    view.root.dataset.best = best.parameters.toExponential(5);
    view.root.dataset.own = own ? own.total.toExponential(5) : "none";
    view.say(`${title}.`);
    drawn(view.root);
  };
  return redrawn(model, ["served", "target", "size"], draw, [...controls, view]);
}

export default { render };
