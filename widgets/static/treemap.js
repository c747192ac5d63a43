// Parameter treemap. Pure functions first (tested in node against Python), drawing last.

const PARTS = ["feed_forward", "attention", "embedding", "output", "norms"];
const PART_NAMES = {
  feed_forward: "feed-forward", attention: "attention", embedding: "embedding",
  output: "output matrix", norms: "norms",
};
const STYLE = { // colour, and angle of the stripes (null: plain)
  feed_forward: ["#0072b2", null], attention: ["#e69f00", 45], embedding: ["#009e73", 135], output: ["#cc79a7", 90],
};
const FLAT = 34; // lower boxes have room for one line at most
const MAP = { x: 20, y: 10, width: 960, height: 400 };

// All kinds of tensors, largest first; a tied output matrix is the embedding itself.
export function kindsOf(shapes, tied) {
  return shapes
    .filter((kind) => !(tied && kind.part === "output"))
    .map((kind) => ({ ...kind, parameters: kind.shape.reduce((a, b) => a * b, kind.copies) }))
    .sort((a, b) => b.parameters - a.parameters);
}

export const totalOf = (kinds) => kinds.reduce((sum, kind) => sum + kind.parameters, 0);

const worst = (row, short) => {
  const deep = row.reduce((sum, [, area]) => sum + area, 0) / short;
  return Math.max(...row.map(([, area]) => Math.max((deep * deep) / area, area / (deep * deep))));
};

export function squarify(sizes, x, y, width, height) {
  const scale = (width * height) / sizes.reduce((sum, [, size]) => sum + size, 0);
  let rest = sizes.map(([name, size]) => [name, size * scale]);
  const boxes = [];
  while (rest.length) {
    const short = Math.min(width, height);
    let taken = 1;
    while (taken < rest.length && worst(rest.slice(0, taken + 1), short) <= worst(rest.slice(0, taken), short)) taken++;
    const row = rest.slice(0, taken);
    rest = rest.slice(taken);
    const deep = row.reduce((sum, [, area]) => sum + area, 0) / short;
    let along = 0;
    for (const [name, area] of row) {
      const length = area / deep;
      boxes.push(width >= height
        ? { name, x, y: y + along, width: deep, height: length }
        : { name, x: x + along, y, width: length, height: deep });
      along += length;
    }
    if (width >= height) { x += deep; width -= deep; } else { y += deep; height -= deep; }
  }
  return boxes;
}

export function layout(kinds, width, height) {
  const parts = PARTS.slice(0, -1)
    .map((part) => [part, totalOf(kinds.filter((kind) => kind.part === part))])
    .filter(([, count]) => count)
    .sort((a, b) => b[1] - a[1]);
  return squarify(parts, 0, 0, width, height).flatMap((outer) => squarify(
    kinds.filter((kind) => kind.part === outer.name).map((kind) => [kind.name, kind.parameters]),
    outer.x, outer.y, outer.width, outer.height,
  ));
}

export function share(count, whole) {
  const percent = (100 * count) / whole;
  if (percent < 0.001) return "below 0.001%";
  return percent >= 0.1 ? `${percent.toFixed(1)}%` : `${Number(percent.toPrecision(2))}%`;
}

export function shapeText(kind) {
  const sizes = `[${kind.shape.map((n) => thousands(n)).join(" × ")}]`;
  return kind.copies > 1 ? `${kind.copies} × ${sizes}` : sizes;
}

export function headline(name, kinds) {
  const whole = totalOf(kinds);
  const ffn = totalOf(kinds.filter((kind) => kind.part === "feed_forward"));
  return `${name}: ${share(ffn, whole)} of ${thousands(whole)} parameters are feed-forward`;
}

export function labels(kind, whole, width, height) {
  const short = kind.name.split(".").at(-1);
  const lines = [short, PART_NAMES[kind.part], share(kind.parameters, whole), shapeText(kind)];
  if (height >= 18 && height < FLAT) return lines.filter((line) => line.length * 8.2 <= width - 12).slice(0, 1);
  const fitting = lines.filter((line) => line.length * (line === short ? 10 : 8.2) <= width - 18);
  return fitting.slice(0, Math.max(Math.floor((height - 14) / 19), 0));
}

const sentence = (kind, whole) =>
  `${kind.name} (${PART_NAMES[kind.part]}): ${shapeText(kind)} = ${thousands(kind.parameters)} parameters, ${share(kind.parameters, whole)}`;

function stripes(plot) {
  const defs = svg(plot, "defs");
  return Object.fromEntries(Object.entries(STYLE).map(([part, [colour, angle]]) => {
    const id = uniqueId(part);
    const pattern = svg(defs, "pattern", { id, width: 9, height: 9, patternUnits: "userSpaceOnUse", patternTransform: `rotate(${angle ?? 0})` });
    svg(pattern, "rect", { width: 9, height: 9, fill: colour, "fill-opacity": 0.18 });
    if (angle !== null) svg(pattern, "line", { x1: 0, y1: 0, x2: 0, y2: 9, stroke: colour, "stroke-width": 1.4 });
    return [part, `url(#${id})`];
  }));
}

// One thing that can be chosen: a box of the map, or the line about the norms.
function option(parent, name, words, choose) {
  const group = keepKeys(svg(parent, "g", { role: "option", "data-name": name, "aria-label": words, tabindex: -1 }));
  group.addEventListener("click", () => { choose(name); group.focus(); });
  group.addEventListener("focus", () => choose(name));
  return group;
}

function drawMap(list, fills, kinds, choose) {
  list.replaceChildren();
  const whole = totalOf(kinds), byName = Object.fromEntries(kinds.map((kind) => [kind.name, kind]));
  for (const box of layout(kinds, MAP.width, MAP.height)) {
    const kind = byName[box.name], x = box.x + MAP.x, y = box.y + MAP.y, flat = box.height < FLAT;
    const group = option(list, kind.name, sentence(kind, whole), choose);
    svg(group, "rect", {
      class: "box", x: x + 1.5, y: y + 1.5, width: Math.max(box.width - 3, 1), height: Math.max(box.height - 3, 1),
      fill: fills[kind.part], stroke: STYLE[kind.part][0],
    });
    labels(kind, whole, box.width, box.height).forEach((line, i) =>
      svg(group, "text", {
        x: x + (flat ? 7 : 11), y: y + (flat ? box.height / 2 + 5 : 26 + 20 * i), class: i || flat ? "line" : "name",
      }, line));
  }
  const norms = totalOf(kinds.filter((kind) => kind.part === "norms"));
  const words = `Too small to draw: all norms together, ${thousands(norms)} parameters (${share(norms, whole)})`;
  const group = option(list, "norms", words, choose);
  svg(group, "rect", { class: "box plain", x: MAP.x, y: MAP.y + MAP.height + 8, width: MAP.width, height: 30 });
  svg(group, "text", { x: MAP.x + 11, y: MAP.y + MAP.height + 29, class: "line" }, words);
}

function moveFocus(event, list) {
  const all = [...list.children], at = all.indexOf(event.target.closest("[role=option]"));
  const to = {
    ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1,
  }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  all[Math.min(Math.max(to, 0), all.length - 1)].focus();
}

function rows(kinds) {
  const whole = totalOf(kinds);
  const list = kinds.map((kind) => ({
    tensor: kind.name, part: PART_NAMES[kind.part], shape: shapeText(kind),
    parameters: thousands(kind.parameters), share: share(kind.parameters, whole),
  }));
  return [...list, { tensor: "total", part: "", shape: "", parameters: thousands(whole), share: "100%" }];
}

function render({ model, el }) {
  const models = model.get("models");
  const view = frame(el, { title: "", name: "treemap" });
  const pick = choice(model, view.controls, "model", "model", Object.keys(models).map((name) => [name, name]));
  const tie = toggle(model, view.controls, "tied", "output matrix tied to the embedding");
  const { plot, describe } = picture(view.root, { width: 1000, height: 452 });
  plot.setAttribute("viewBox", "18 0 964 452");
  plot.setAttribute("role", "group"); // its boxes can be focused, so it is not one flat image
  const fills = stripes(plot);
  const list = svg(plot, "g", { role: "listbox", "aria-label": "kinds of tensors, largest first" });
  const detail = node(view.root, "p", { class: "l3-note detail" });
  const table = tableTwin(view.root, "Parameters by kind of tensor");
  let kinds = [];

  const choose = (name) => {
    if (model.get("selected") === name) return;
    model.set("selected", name);
    model.save_changes();
  };
  const mark = () => {
    const all = [...list.children];
    const chosen = all.find((group) => group.dataset.name === model.get("selected")) || all[0];
    for (const group of all) {
      group.setAttribute("aria-selected", String(group === chosen));
      group.setAttribute("tabindex", group === chosen ? 0 : -1);
    }
    detail.textContent = chosen.getAttribute("aria-label");
    drawn(view.root);
  };
  const draw = () => {
    const name = model.get("model");
    kinds = kindsOf(models[name].shapes, model.get("tied"));
    const title = headline(name, kinds);
    view.setTitle(title);
    describe(title, rows(kinds).map((row) => `${row.tensor} ${row.parameters}`).join("; "));
    drawMap(list, fills, kinds, choose);
    table(rows(kinds));
    view.root.dataset.total = totalOf(kinds);
    view.say(title);
    mark();
  };
  const released = () => { // another model starts as it was released
    model.set("tied", models[model.get("model")].tied);
    model.save_changes();
    draw();
  };
  const keys = (event) => moveFocus(event, list);
  list.addEventListener("keydown", keys);
  model.on("change:model", released);
  model.on("change:tied", draw);
  model.on("change:selected", mark);
  draw();
  return () => {
    model.off("change:model", released);
    model.off("change:tied", draw);
    model.off("change:selected", mark);
    pick.stop(); tie.stop(); view.stop();
  };
}

export default { render };
