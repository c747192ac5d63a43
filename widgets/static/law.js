// The law for training tokens. Pure functions first (tested in node against Python), drawing last.

const MAIN = { x: 84, y: 48, width: 564, height: 330 };
const ZOOM = { x: 712, y: 48, width: 172, height: 330 };

export function three(value, digits = 3) {
  return Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 20 });
}

export const tokensOf = (pair, flops, nudge = 0) => pair.coefficient * flops ** (pair.exponent + nudge);
const parametersOf = (flops, read) => flops / (6 * read);
// Fewest and most tokens of all pairs that round to the printed digits.
export const bandOf = (pair, flops) => [-pair.half, pair.half].map((off) => (pair.coefficient + off) * flops ** (pair.exponent + off));
const digitsOf = (pair) => `(${pair.exponent}, ${pair.coefficient})`;
const largestOf = (facts) => facts.budgets.at(-1);
const ordersBeyond = (facts, flops) => Math.log10(flops / largestOf(facts));

export function headline(facts, name, flops, nudge) {
  const pair = facts.pairs[name], who = pair.name + (nudge ? ` with alpha ${(pair.exponent + nudge).toFixed(3)}` : "");
  const says = `At ${flopsText(flops)} FLOPs ${who} says ${withUnit(tokensOf(pair, flops, nudge))} tokens`;
  if (flops === facts.flagship) return `${says}; the paper says ${withUnit(facts.crosses[0][1], 4)}`;
  const other = facts.pairs[name === "printed" ? "figure" : "printed"];
  return `${says}; ${other.name} says ${withUnit(tokensOf(other, flops))}`;
}

function reachOf(facts, flops) {
  const least = flopsText(facts.budgets[0]), most = flopsText(largestOf(facts));
  if (flops > largestOf(facts)) return `${flopsText(flops)} is ${ordersBeyond(facts, flops).toFixed(2)} orders of magnitude beyond the largest budget of Figure 2, ${most}: this is extrapolation.`;
  if (flops >= facts.budgets[0]) return `This is within the budgets of Figure 2, ${least} to ${most} FLOPs.`;
  return `This is below the smallest budget of Figure 2, ${least} FLOPs.`;
}

export function notes(facts, name, flops, nudge) {
  const pair = facts.pairs[name], read = tokensOf(pair, flops, nudge), size = parametersOf(flops, read);
  const [low, high] = bandOf(pair, flops), told = facts.crosses[0][1], reach = low <= told && told <= high ? "is among them" : "is out of their reach";
  const paper = flops === facts.flagship ? `; ${withUnit(told, 4)} ${reach}` : "";
  const one = Math.exp(0.001 * Math.log(flops)) - 1, nudged = nudge ? `; this nudge makes them ${three(flops ** nudge)} times as many` : "";
  return [
    `${withUnit(read)} tokens go with ${withUnit(size)} parameters, C / (6 · N*): ${three(read / size)} tokens for each parameter.`,
    `All pairs that round to ${digitsOf(pair)} give ${withUnit(low)} to ${withUnit(high)} tokens${paper}.${Math.abs(nudge) > pair.half + 1e-9 ? " The nudge goes beyond that rounding." : ""}`,
    `d ln N* / d alpha = ln C = ${Math.log(flops).toFixed(1)}: 0.001 more in alpha is ${three(100 * one, 2)}% more tokens${nudged}.`,
    reachOf(facts, flops),
  ];
}

export function tableRows(facts, name, flops, nudge) {
  const pair = facts.pairs[name], all = new Set([facts.flagship, flops]);
  for (let power = facts.decades[0]; power <= facts.decades[1]; power++) all.add(Number(`1e${power}`));
  return [...all].sort((a, b) => a - b).map((at) => {
    const read = tokensOf(pair, at, nudge), [low, high] = bandOf(pair, at), row = { FLOPs: flopsText(at) };
    for (const one of Object.values(facts.pairs)) row[`tokens ${digitsOf(one)}`] = withUnit(tokensOf(one, at));
    return {
      ...row, "chosen, nudged": withUnit(read), "its parameters": withUnit(parametersOf(at, read)),
      "tokens per parameter": three(read / parametersOf(at, read)), "rounding from": withUnit(low), "rounding to": withUnit(high),
      "beyond Figure 2": at > largestOf(facts) ? `${ordersBeyond(facts, at).toFixed(2)} orders` : "no",
    };
  });
}

// What the second panel spans: FLOPs, then tokens, around the middle of both pairs.
export function magnified(facts, flops) {
  const middle = Math.sqrt(Object.values(facts.pairs).reduce((all, pair) => all * tokensOf(pair, flops), 1));
  const [wide, high] = facts.window.map((half) => 10 ** half);
  return [flops / wide, flops * wide, middle / high, middle * high];
}

export function marks(low, high, digits) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of digits) found.push(Number(`${digit}e${power}`));
  }
  return found.filter((mark) => low <= mark && mark <= high);
}

const spotter = (box, [left, right, low, high]) => (flops, read) => [
  box.x + (box.width * Math.log(flops / left)) / Math.log(right / left),
  box.y + box.height * (1 - Math.log(read / low) / Math.log(high / low)),
];
const wideOf = (facts) => [10 ** facts.decades[0], 10 ** facts.decades[1], ...facts.span];

function drawCross(layer, x, y, size, plus, { words = null, edge = false } = {}) {
  const d = `M${x - size} ${y}h${2 * size}M${x} ${y - size}v${2 * size}`, turn = plus ? {} : { transform: `rotate(45 ${x} ${y})` };
  if (edge) svg(layer, "path", { d, ...turn, class: "edge" });
  const mark = svg(layer, "path", { d, ...turn, class: plus ? "trained" : "optimum" });
  if (words) svg(mark, "title", {}, words);
}

function drawDiamond(layer, x, y, r) {
  svg(layer, "path", { d: `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`, class: "dot" });
}

function drawAxes(layer, box, ends) {
  const [left, right, low, high] = ends, spot = spotter(box, ends), bottom = box.y + box.height, wide = box === MAIN;
  for (const mark of marks(low, high, wide ? [1] : [1, 2, 3, 5])) {
    const y = spot(left, mark)[1];
    svg(layer, "line", { x1: box.x, x2: box.x + box.width, y1: y, y2: y, class: "grid" });
    svg(layer, "text", { x: box.x - 7, y: y + 5, "text-anchor": "end", class: "soft" }, withUnit(mark));
  }
  for (const mark of marks(left, right, wide ? [1] : [1, 1.5, 2, 3, 4, 6])) {
    if (wide && Math.round(Math.log10(mark)) % 2) continue;
    const x = spot(mark, low)[0];
    svg(layer, "line", { x1: x, x2: x, y1: box.y, y2: bottom, class: "grid" });
    svg(layer, "text", { x, y: bottom + 20, "text-anchor": "middle", class: "soft" }, flopsText(mark));
  }
  svg(layer, "rect", { ...box, class: "border" });
}

function drawPanel(layer, facts, box, ends, name, flops, nudge) {
  const [left, right, low, high] = ends, spot = spotter(box, ends), pair = facts.pairs[name];
  drawAxes(layer, box, ends);
  const corners = [[left, 0], [left, 1], [right, 1], [right, 0]].map(([at, side]) => spot(at, bandOf(pair, at)[side]));
  svg(layer, "polygon", { class: "band", points: corners.map((one) => one.map((v) => v.toFixed(1)).join(",")).join(" ") });
  const line = (one, off, kind) => {
    const [x1, y1] = spot(left, tokensOf(one, left, off)), [x2, y2] = spot(right, tokensOf(one, right, off));
    svg(layer, "line", { x1, y1, x2, y2, class: kind });
  };
  for (const [key, one] of Object.entries(facts.pairs)) line(one, 0, `pair ${key}`);
  line(pair, nudge, "chosen");
  if (left < facts.flagship && facts.flagship < right) {
    facts.crosses.forEach(([words, read], i) => {
      if (low < read && read < high) drawCross(layer, ...spot(facts.flagship, read), box === MAIN ? 5 : 8, i === 1, { words, edge: box === ZOOM });
    });
  }
  const read = tokensOf(pair, flops, nudge), [x, y] = spot(flops, read);
  drawDiamond(layer, x, y, 9);
  if (box === ZOOM) svg(layer, "text", { x: x - 13, y: y - 8, "text-anchor": "end", class: "halo name" }, withUnit(read));
}

function drawBudgets(layer, facts) {
  const spot = spotter(MAIN, wideOf(facts)), bottom = MAIN.y + MAIN.height, x = spot(largestOf(facts), facts.span[0])[0];
  svg(layer, "rect", { x, y: MAIN.y, width: MAIN.x + MAIN.width - x, height: MAIN.height, class: "beyond" });
  for (const flops of facts.budgets) {
    const mark = svg(layer, "path", { d: `M${spot(flops, facts.span[0])[0]} ${bottom - 12}l4 12h-8z`, class: "budget" });
    svg(mark, "title", {}, `a budget of Figure 2: ${flopsText(flops)} FLOPs`);
  }
}

function drawWords(layer, facts, near, pair, nudge) {
  const spot = spotter(MAIN, wideOf(facts)), bottom = MAIN.y + MAIN.height, x = spot(largestOf(facts), facts.span[0])[0];
  const [least, most] = facts.decades.map((power) => 10 ** power), [left, right, low, high] = near;
  const [x1, y1] = spot(Math.max(left, least), high), [x2, y2] = spot(Math.min(right, most), low);
  svg(layer, "rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, class: "lens" });
  svg(layer, "text", { x: x + 8, y: bottom - 34, class: "halo" }, "extrapolated:");
  svg(layer, "text", { x: x + 8, y: bottom - 14, class: "halo" }, `${ordersBeyond(facts, facts.flagship).toFixed(2)} orders to ${flopsText(facts.flagship)}`);
  svg(layer, "text", { x: x - 4, y: bottom - 20, "text-anchor": "end", class: "halo" }, "▲ budgets of Figure 2");
  svg(layer, "text", { x: MAIN.x + MAIN.width / 2, y: bottom + 44, "text-anchor": "middle" }, "FLOPs of training C (log axes)");
  svg(layer, "text", { x: 12, y: 20, class: "soft" }, "optimal training tokens N*");
  svg(layer, "text", { x: ZOOM.x, y: ZOOM.y - 12, class: "soft" }, "the dotted box, magnified");
  for (const one of Object.values(facts.pairs)) {
    const [end, y] = spotter(ZOOM, near)(right, tokensOf(one, right));
    svg(layer, "text", { x: end + 5, y: y + 5, class: "small" }, digitsOf(one));
  }
  const y = bottom + 74, at = MAIN.x;
  drawDiamond(layer, at + 6, y, 8);
  svg(layer, "text", { x: at + 22, y: y + 5 }, "chosen");
  svg(layer, "line", { x1: at + 96, x2: at + 126, y1: y, y2: y, class: "chosen" });
  svg(layer, "text", { x: at + 134, y: y + 5 }, pair.name + (nudge ? ", nudged" : ""));
  svg(layer, "rect", { x: at + 340, y: y - 8, width: 26, height: 16, class: "band" });
  svg(layer, "text", { x: at + 374, y: y + 5 }, `all pairs that round to ${digitsOf(pair)}`);
  facts.crosses.forEach(([words], i) => {
    const begin = at + [6, 416][i];
    drawCross(layer, begin, y + 26, 6, i === 1);
    svg(layer, "text", { x: begin + 16, y: y + 31 }, words);
  });
}

function render({ model, el }) {
  const facts = model.get("facts");
  const view = frame(el, { title: "", name: "law" });
  const nudgeText = (value) => value ? `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(3)}` : "none";
  const computes = slider(model, view.controls, "compute", "compute", { stops: facts.stops, text: (value) => `${flopsText(value)} FLOPs` });
  const pairs = choice(model, view.controls, "pair", "pair", Object.entries(facts.pairs).map(([key, pair]) => [key, `${digitsOf(pair)} ${pair.where}`]));
  const nudges = slider(model, view.controls, "nudge", "nudge of alpha", { stops: facts.nudges, text: nudgeText });
  const { plot, describe } = picture(view.root, { width: 1000, height: 490 });
  const layer = svg(plot, "g"), list = node(view.root, "ul", { class: "l3-note" });
  const table = tableTwin(view.root, "Tokens by both pairs, and what the chosen one with its nudge says");
  let calm = null;

  const draw = () => {
    const given = [facts, model.get("pair"), model.get("compute"), model.get("nudge")], [, name, flops, nudge] = given;
    const title = headline(...given), told = notes(...given), near = magnified(facts, flops);
    layer.replaceChildren();
    drawBudgets(layer, facts);
    drawPanel(layer, facts, MAIN, wideOf(facts), name, flops, nudge);
    drawPanel(layer, facts, ZOOM, near, name, flops, nudge);
    drawWords(layer, facts, near, facts.pairs[name], nudge);
    list.replaceChildren();
    for (const line of told) node(list, "li", {}, line);
    view.setTitle(title);
    describe(title, told.join(" "));
    clearTimeout(calm); // the table may follow the picture
    calm = setTimeout(() => table(tableRows(...given)), 150);
    view.root.dataset.tokens = tokensOf(facts.pairs[name], flops, nudge).toExponential(6);
    view.root.dataset.pair = name;
    view.say(`${title}.`);
    drawn(view.root);
  };
  const stop = redrawn(model, ["compute", "pair", "nudge"], draw, [computes, pairs, nudges, view]);
  return () => { clearTimeout(calm); stop(); };
}

export default { render };
