// Rotary position explorer. Pure functions first (tested in node against Python), drawing last.

const RELEASED = { factor: 8, low: 1, high: 4, original: 8192 }; // scaling of the released 3.1 code
const MAX_POSITION = 131072;
const BASES = [10000, 500000];
const BANDS = { // colour of a clock's rim, its dashes, its name
  kept: ["#0072b2", "none", "kept"], blended: ["#e69f00", "5 3", "blended"], divided: ["#cc79a7", "1.5 2.5", "divided by 8"],
};
const PLOT = { x: 520, y: 32, width: 450, height: 340, low: -0.4 };
const TURN = 2 * Math.PI;

export function baseStops(steps = 20) {
  const inner = Array.from({ length: steps - 1 }, (_, i) => BASES[0] * (BASES[1] / BASES[0]) ** ((i + 1) / steps));
  return [BASES[0], ...inner, BASES[1]];
}

export function positionStops(largest = MAX_POSITION) {
  const stops = Array.from({ length: 17 }, (_, i) => i);
  for (let power = 33; stops.at(-1) < largest; power++) stops.push(Math.min(Math.floor(2 ** (power / 8) + 0.5), largest));
  return stops;
}

// Radians per position of each pair, fastest first; slow pairs turn up to 8 times slower when scaled.
export function frequencies(headDim, base, scaled) {
  return Array.from({ length: headDim / 2 }, (_, i) => {
    const freq = base ** ((-2 * i) / headDim);
    if (!scaled) return freq;
    const turns = (RELEASED.original * freq) / TURN;
    const keep = Math.min(Math.max((turns - RELEASED.low) / (RELEASED.high - RELEASED.low), 0), 1);
    return keep * freq + ((1 - keep) * freq) / RELEASED.factor;
  });
}

export function bands(headDim, base) {
  return frequencies(headDim, base, false).map((freq) => {
    const turns = (RELEASED.original * freq) / TURN;
    return turns > RELEASED.high ? "kept" : turns < RELEASED.low ? "divided" : "blended";
  });
}

// Mean over the pairs of cos(distance * frequency).
export function scoreAt(freqs, distance) {
  return freqs.reduce((sum, freq) => sum + Math.cos(distance * freq), 0) / freqs.length;
}

export function distances(largest = MAX_POSITION, points = 480) {
  const all = Array.from({ length: points }, (_, i) => Math.floor(largest ** (i / (points - 1)) + 0.5));
  return [...new Set(all)];
}

export function headline(freqs, position) {
  const slow = freqs.filter((freq) => (freq * position) / TURN < 1).length;
  return `At position ${thousands(position)}, ${slow} of ${freqs.length} hands have not finished one turn`;
}

export function legend(headDim, base, scaled) {
  if (!scaled) return [["kept", `all ${headDim / 2} frequencies as the base gives them`]];
  const found = bands(headDim, base);
  return Object.entries(BANDS).map(([band, [, , name]]) => [band, `${found.filter((b) => b === band).length} ${name}`]);
}

const point = (distance, score) => [
  PLOT.x + (distance > 1 ? (PLOT.width * Math.log(distance)) / Math.log(MAX_POSITION) : 0),
  PLOT.y + (PLOT.height * (1 - score)) / (1 - PLOT.low),
];

const curve = (freqs) => "M" + distances()
  .map((distance) => point(distance, scoreAt(freqs, distance)).map((v) => v.toFixed(1)).join(" ")).join("L");

function makeClocks(plot, pairs) {
  svg(plot, "text", { x: 20, y: 20, class: "soft" }, "one clock a pair, fastest first");
  return Array.from({ length: pairs }, (_, i) => {
    const x = 44 + 54 * (i % 8), y = 58 + 45 * Math.floor(i / 8);
    const rim = svg(plot, "circle", { cx: x, cy: y, r: 18.5, class: "rim" });
    const name = svg(rim, "title");
    return { x, y, rim, name, hand: svg(plot, "line", { x1: x, y1: y, class: "hand", "data-pair": i }) };
  });
}

function makeLegend(plot) {
  const lines = [0, 1, 2].map((i) => ({
    rim: svg(plot, "circle", { cx: 36 + 150 * i, cy: 432, r: 9, class: "rim" }),
    text: svg(plot, "text", { x: 54 + 150 * i, y: 437 }),
  }));
  return (items) => lines.forEach((line, i) => {
    const [band, words] = items[i] || [null, ""];
    line.rim.setAttribute("visibility", band ? "visible" : "hidden");
    line.text.textContent = words;
    if (band) { line.rim.setAttribute("stroke", BANDS[band][0]); line.rim.setAttribute("stroke-dasharray", BANDS[band][1]); }
  });
}

function makePlot(plot, headDim) {
  const low = PLOT.y + PLOT.height;
  svg(plot, "text", { x: PLOT.x, y: 20, class: "soft" }, "score of a key equal to the query");
  for (const value of [-0.4, 0, 0.5, 1]) {
    const y = point(1, value)[1];
    svg(plot, "line", { x1: PLOT.x, y1: y, x2: PLOT.x + PLOT.width, y2: y, class: value === 0 ? "zero" : "grid" });
    svg(plot, "text", { x: PLOT.x - 8, y: y + 5, "text-anchor": "end", class: "soft" }, String(value));
  }
  for (const distance of [1, 64, 1024, 8192, 131072]) {
    const x = point(distance, 0)[0];
    svg(plot, "line", { x1: x, y1: low, x2: x, y2: low + 5, class: "zero" });
    svg(plot, "text", { x, y: low + 22, "text-anchor": distance > 1e5 ? "end" : "middle", class: "soft" }, thousands(distance));
  }
  svg(plot, "text", { x: PLOT.x + PLOT.width / 2, y: low + 42, "text-anchor": "middle" }, "distance in tokens");
  svg(plot, "path", { d: curve(frequencies(headDim, BASES[0], false)), class: "old" });
  const now = svg(plot, "path", { class: "now" });
  const here = svg(plot, "line", { y1: PLOT.y, y2: low, class: "here" });
  const dot = svg(plot, "circle", { r: 7, class: "dot" });
  const value = svg(plot, "text", { class: "value" });
  const names = svg(plot, "text", { x: PLOT.x, y: 437 });
  return { now, here, dot, value, names };
}

function placeDot(parts, position, score) {
  const [x, y] = point(position, score), late = x > PLOT.x + PLOT.width - 110;
  parts.here.setAttribute("x1", x); parts.here.setAttribute("x2", x);
  parts.dot.setAttribute("cx", x); parts.dot.setAttribute("cy", y);
  parts.value.setAttribute("x", x + (late ? -12 : 12));
  parts.value.setAttribute("y", Math.max(y - 34, PLOT.y + 20));
  parts.value.setAttribute("text-anchor", late ? "end" : "start");
  parts.value.textContent = score.toFixed(3);
}

const turnText = (freq) => (TURN / freq < 100 ? (TURN / freq).toFixed(1) : thousands(TURN / freq));

const tableRows = (freqs, found, position) => freqs.map((freq, i) => ({
  pair: i, "radians per token": freq.toPrecision(4), "tokens for one turn": turnText(freq),
  "turns at this position": ((freq * position) / TURN).toFixed(2), scaling: found[i],
}));

function render({ model, el }) {
  const headDim = model.get("head_dim");
  const view = frame(el, { title: "", name: "rope" });
  const where = slider(model, view.controls, "position", "position", { stops: positionStops(), text: thousands });
  const stops = baseStops();
  const wide = slider(model, view.controls, "base", "base", { stops, text: thousands, marks: [0, stops.length - 1] });
  const scale = toggle(model, view.controls, "scaled", "scaling of 3.1");
  const { plot, describe } = picture(view.root, { width: 1000, height: 452 });
  plot.setAttribute("viewBox", "18 0 964 452");
  const clocks = makeClocks(plot, headDim / 2), showLegend = makeLegend(plot), parts = makePlot(plot, headDim);
  node(view.root, "p", { class: "l3-note" }, "Score: mean over the pairs of cos(distance × frequency), so 1 at distance 0. The base of 500,000 is the paper's (§3.2); the scaling is in the released code only.");
  const table = tableTwin(view.root, "Every pair");

  let calm = null;
  const turn = (freqs, found) => {
    const position = model.get("position");
    clocks.forEach((clock, i) => {
      const angle = position * freqs[i], [colour, dashes] = BANDS[found[i]];
      clock.hand.setAttribute("x2", clock.x + 16.5 * Math.cos(angle));
      clock.hand.setAttribute("y2", clock.y - 16.5 * Math.sin(angle));
      clock.rim.setAttribute("stroke", colour);
      clock.rim.setAttribute("stroke-dasharray", dashes);
      clock.name.textContent = `pair ${i}: one turn in ${turnText(freqs[i])} tokens`;
    });
    const score = scoreAt(freqs, position), title = headline(freqs, position);
    placeDot(parts, position, score);
    view.setTitle(title);
    view.root.dataset.score = score.toFixed(6);
    describe(title, `Score at distance ${thousands(position)}: ${score.toFixed(3)}.`);
    view.say(`${title}. Score at this distance: ${score.toFixed(3)}.`);
    clearTimeout(calm); // the table may follow the picture: a burst of moves fills it once
    calm = setTimeout(() => table(tableRows(freqs, found, position)), 150);
    drawn(view.root);
  };
  const state = () => {
    const base = model.get("base"), scaled = model.get("scaled");
    return [frequencies(headDim, base, scaled), scaled ? bands(headDim, base) : Array(headDim / 2).fill("kept")];
  };
  const move = () => turn(...state());
  const redraw = () => {
    const base = model.get("base");
    parts.now.setAttribute("d", curve(state()[0]));
    parts.names.textContent = `solid: base ${thousands(base)}${model.get("scaled") ? ", scaled" : ""} · dashed: base 10,000`;
    showLegend(legend(headDim, base, model.get("scaled")));
    move();
  };
  model.on("change:position", move);
  model.on("change:base", redraw);
  model.on("change:scaled", redraw);
  redraw();
  return () => {
    model.off("change:position", move);
    model.off("change:base", redraw);
    model.off("change:scaled", redraw);
    clearTimeout(calm);
    where.stop(); wide.stop(); scale.stop(); view.stop();
  };
}

export default { render };
