// Architecture tracer: the kernel runs the model, this draws. Pure functions first, drawing last.

const GRID = { x: 118, width: 510, height: 430, top: (pattern) => (pattern ? 84 : 30) };

// The picture of a matrix: area tells the size, hollow tells below 0.
export function squares(cells, width, height) {
  const step = Math.min(width / cells[0].length, height / cells.length, 40);
  const sizes = cells.flat().filter((value) => value !== null).map(Math.abs);
  const largest = Math.max(0, ...sizes) || 1;
  return cells.flatMap((row, line) => row.map((value, column) => ({
    x: (column + 0.5) * step, y: (line + 0.5) * step,
    side: step * (value === null ? 0.5 : 0.94 * Math.sqrt(Math.abs(value) / largest)),
    sign: value === null ? 0 : value < 0 ? -1 : 1,
  })));
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function drawDiagram(parent, { parts, block, bypasses, wires }) {
  const plot = keepKeys(svg(parent, "svg", {
    viewBox: "0 0 314 604", width: "100%", role: "listbox", tabindex: 0, class: "l3-picture diagram", "data-trait": "part",
    "aria-label": "parts of the model, from the tokens to the scores",
  }));
  const [x, y, width, height] = block;
  svg(plot, "rect", { x, y, width, height, rx: 8, class: "block" });
  const caption = svg(plot, "text", { x: x + width - 10, y: y + 15, "text-anchor": "end", class: "soft small" });
  for (const [at, start, end] of wires) svg(plot, "line", { x1: at, x2: at, y1: start, y2: end, class: "bypass" });
  for (const [start, end] of bypasses) svg(plot, "path", { d: `M160 ${start}H16V${end}H26`, class: "bypass" });
  const options = parts.map((part) => {
    const [left, top, wide, high] = part.box;
    const id = uniqueId(part.key);
    const group = svg(plot, "g", { id, role: "option", "aria-label": part.name, "data-key": part.key });
    svg(group, "rect", { x: left, y: top, width: wide, height: high, rx: 5 });
    svg(group, "text", { x: left + wide / 2, y: top + high / 2 + 5, "text-anchor": "middle" }, part.label);
    return group;
  });
  const mark = (key) => {
    for (const group of options) group.setAttribute("aria-selected", String(group.dataset.key === key));
    plot.setAttribute("aria-activedescendant", options.find((group) => group.dataset.key === key).id);
  };
  return { plot, caption, mark };
}

function outline({ x, y, side }, top) {
  const [left, high, wide] = [GRID.x + x - side / 2, top + y - side / 2, side].map((value) => value.toFixed(2));
  return `M${left} ${high}h${wide}v${wide}h-${wide}z`;
}

function drawCells(layer, view) {
  layer.replaceChildren();
  const step = Math.min(GRID.width / view.columns.length, GRID.height / view.rows.length, 40);
  const size = Math.min(15, step * 0.95), top = GRID.top(view.pattern);
  view.rows.forEach((token, i) => svg(layer, "text", {
    x: GRID.x - 10, y: top + (i + 0.5) * step + size * 0.35, "text-anchor": "end", style: `font-size:${size}px`, class: "token",
  }, shortened(token, 12)));
  view.columns.forEach((name, i) => {
    if (!view.pattern && i % 4) return;
    const x = GRID.x + (i + 0.5) * step, y = top - 8;
    const turn = view.pattern ? { transform: `rotate(-50 ${x} ${y})`, "text-anchor": "start" } : { "text-anchor": "middle" };
    svg(layer, "text", { x, y, class: "soft small", ...turn }, shortened(name, 8));
  });
  svg(layer, "rect", { x: GRID.x, y: top, width: step * view.columns.length, height: step * view.rows.length, class: "edge" });
  const all = squares(view.cells, GRID.width, GRID.height); // one path for each sign: many shapes would be slow
  ["minus", "nothing", "plus"].forEach((name, i) => svg(layer, "path", {
    d: all.filter((square) => square.sign === i - 1).map((square) => outline(square, top)).join(""), class: `cell ${name}`,
  }));
  return top + step * view.rows.length;
}

function drawLegend(layer, top, pattern) {
  svg(layer, "rect", { x: GRID.x, y: top + 16, width: 14, height: 14, class: "cell plus" });
  svg(layer, "text", { x: GRID.x + 22, y: top + 28 }, pattern ? "area: share of attention" : "above 0");
  if (pattern) return;
  svg(layer, "rect", { x: GRID.x + 110, y: top + 16, width: 14, height: 14, class: "cell minus" });
  svg(layer, "text", { x: GRID.x + 132, y: top + 28 }, "below 0");
  svg(layer, "text", { x: GRID.x + 220, y: top + 28, class: "soft" }, "area: size");
}

function makeFacts(parent) {
  const list = node(parent, "dl", { class: "facts" });
  return (view) => {
    list.replaceChildren();
    const numbers = Object.entries(view.statistics).map(([name, value]) => `${name} ${value}`).join(" · ");
    const facts = [
      ["what it does", view.does], ["goes in", view.inputs.join(" · ")], ["comes out", view.output],
      ["parameters", thousands(view.parameters)], ["values", numbers], ["in the model", view.name], ["paper", view.section],
    ];
    for (const [name, words] of facts) { node(list, "dt", {}, name); node(list, "dd", {}, words); }
  };
}

function makeSource(parent) {
  const details = node(parent, "details", { class: "source" });
  keepKeys(node(details, "summary", {}, "The code that runs here, from the library"));
  const place = node(details, "p", { class: "l3-note" });
  const code = keepKeys(node(details, "pre", { tabindex: 0, "aria-label": "source code" }));
  let last = "";
  return ({ place: where, text, lines }) => {
    if (last === `${where} ${lines}`) return;
    last = `${where} ${lines}`;
    place.textContent = where;
    code.replaceChildren();
    text.split("\n").forEach((line, i) => {
      const here = lines.includes(i);
      node(code, here ? "mark" : "span", {}, `${here ? "▸ " : "  "}${line}\n`);
    });
  };
}

function tableRows(view) {
  return view.rows.map((token, i) => ({
    token, ...Object.fromEntries(view.columns.map((name, j) => [
      view.pattern ? `${j}: ${name}` : `c${name}`, view.cells[i][j] === null ? "not a number" : Number(view.cells[i][j].toPrecision(3)),
    ])),
  }));
}

function movePart(event, model, parts) {
  const at = parts.findIndex((part) => part.key === model.get("part"));
  const to = {
    ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: parts.length - 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  model.set("part", parts[Math.min(Math.max(to, 0), parts.length - 1)].key);
  model.save_changes();
}

function render({ model, el }) {
  const diagram = model.get("diagram"), view = frame(el, { title: "", name: "tracer" });
  const layer = slider(model, view.controls, "layer", "layer", { max: model.get("layers") - 1 });
  const head = slider(model, view.controls, "head", "head", { max: model.get("heads") - 1 });
  const body = node(view.root, "div", { class: "body" });
  const left = node(body, "div", { class: "left" }), right = node(body, "div", { class: "right" });
  const { plot: chart, caption, mark } = drawDiagram(left, diagram);
  const { plot, describe } = picture(right, { width: 640, height: 520 });
  const cells = svg(plot, "g");
  const note = node(right, "p", { class: "l3-note" });
  const facts = makeFacts(right), source = makeSource(view.root), table = tableTwin(view.root, "The values of the picture");
  let late = null, calm = null;

  const choose = () => { // at once: what was chosen; the values follow from the kernel
    const part = diagram.parts.find((item) => item.key === model.get("part"));
    mark(part.key);
    layer.input.disabled = !part.block;
    head.input.disabled = !part.heads;
    caption.textContent = `layer ${model.get("layer")} of 0 to ${model.get("layers") - 1}`;
    clearTimeout(late);
    late = setTimeout(() => {
      const shown = model.get("view");
      const same = ["part", "layer", "head"].every((name) => shown[name] === model.get(name));
      note.textContent = same ? shown.note : "Waiting for the kernel: another part needs a running notebook.";
    }, 1500);
  };
  const draw = () => {
    const shown = model.get("view");
    const bottom = drawCells(cells, shown);
    drawLegend(cells, bottom, shown.pattern);
    plot.setAttribute("viewBox", `0 0 640 ${Math.ceil(bottom + 40)}`);
    view.setTitle(shown.title);
    describe(shown.title, `${shown.does} ${shown.note}`);
    note.textContent = shown.note;
    facts(shown);
    source(shown.source);
    clearTimeout(calm); // the table may follow the picture: a burst of moves fills it once
    calm = setTimeout(() => table(tableRows(shown)), 150);
    view.root.dataset.part = shown.part;
    view.say(`${shown.title}. ${shown.does}`);
    drawn(view.root);
  };
  const click = (event) => {
    const group = event.target.closest("[role=option]");
    if (group) { model.set("part", group.dataset.key); model.save_changes(); }
  };
  const keys = (event) => movePart(event, model, diagram.parts);
  chart.addEventListener("click", click);
  chart.addEventListener("keydown", keys);
  for (const name of ["part", "layer", "head"]) model.on(`change:${name}`, choose);
  model.on("change:view", draw);
  choose();
  draw();
  return () => {
    clearTimeout(late);
    clearTimeout(calm);
    for (const name of ["part", "layer", "head"]) model.off(`change:${name}`, choose);
    model.off("change:view", draw);
    layer.stop(); head.stop(); view.stop();
  };
}

export default { render };
