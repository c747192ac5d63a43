// Shared by all widgets: controls that JupyterLab's shortcuts leave alone, SVG, tables, a polite
// voice for screen readers, and a clock for tests. Text always goes in as text, never as HTML.

const SVG_NS = "http://www.w3.org/2000/svg";

// Okabe and Ito's colours: told apart by most colour-blind people. Never the only sign.
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8a8a00", "#666666"];

let nextId = 0;
const uniqueId = (stem) => `l3-${stem}-${Date.now().toString(36)}-${nextId++}`;

function node(parent, tag, attributes = {}, text = null) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function svg(parent, tag, attributes = {}, text = null) {
  const made = document.createElementNS(SVG_NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return parent.appendChild(made);
}

// JupyterLab takes arrow keys away from focused controls unless the control itself says no.
function keepKeys(control) {
  control.setAttribute("data-lm-suppress-shortcuts", "true");
  return control;
}

// Frame of a widget: a root element with theme classes, a heading, and a voice for changes.
function frame(el, { title, name }) {
  const root = node(el, "section", { class: `l3 l3-${name}`, "aria-label": title });
  const heading = node(root, "h4", { class: "l3-title" }, title);
  const controls = node(root, "div", { class: "l3-controls" });
  const voice = node(root, "div", { class: "l3-voice", role: "status", "aria-live": "polite" });
  let timer = null;
  const say = (text) => {
    clearTimeout(timer); // only the last of a burst of moves is read out
    timer = setTimeout(() => { voice.textContent = text; }, 350);
  };
  return { root, heading, controls, say, setTitle: (text) => { heading.textContent = text; root.setAttribute("aria-label", text); }, stop: () => clearTimeout(timer) };
}

// Marks the moment a move has been drawn, so that a test can measure from key press to picture.
function drawn(root) {
  requestAnimationFrame(() => {
    root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
    root.dispatchEvent(new CustomEvent("l3-drawn", { bubbles: true }));
  });
}

// A slider over `stops` (a list) or over min..max; the trait holds the value, not the index.
function slider(model, parent, trait, label, { stops = null, min = 0, max = 0, step = 1, text = String, marks = [] }) {
  const box = node(parent, "label", { class: "l3-control" });
  node(box, "span", { class: "l3-label" }, label);
  const list = marks.length ? uniqueId("marks") : null;
  const input = keepKeys(node(box, "input", {
    type: "range", min: stops ? 0 : min, max: stops ? stops.length - 1 : max, step: stops ? 1 : step,
    "data-trait": trait, list,
  }));
  if (list) { const all = node(box, "datalist", { id: list }); for (const value of marks) node(all, "option", { value }); }
  const out = node(box, "output", { class: "l3-value" });
  const nearest = (value) => stops.reduce((best, stop, i) => Math.abs(stop - value) < Math.abs(stops[best] - value) ? i : best, 0);
  const show = () => {
    const value = model.get(trait);
    const place = stops ? nearest(value) : value;
    if (Number(input.value) !== place) input.value = place;
    out.textContent = text(value);
    input.setAttribute("aria-valuetext", text(value));
  };
  const send = () => {
    model.set(trait, stops ? stops[Number(input.value)] : Number(input.value));
    model.save_changes();
  };
  input.addEventListener("input", send);
  model.on(`change:${trait}`, show);
  show();
  return {
    input, box,
    setStops: (list_) => { stops = list_; input.max = stops.length - 1; show(); },
    setMax: (value) => { input.max = value; show(); },
    stop: () => model.off(`change:${trait}`, show),
  };
}

// A drop-down list of [value, label] pairs.
function choice(model, parent, trait, label, options) {
  const box = node(parent, "label", { class: "l3-control" });
  node(box, "span", { class: "l3-label" }, label);
  const select = keepKeys(node(box, "select", { "data-trait": trait }));
  for (const [value, words] of options) node(select, "option", { value }, words);
  const show = () => { select.value = String(model.get(trait)); };
  const typed = (text) => options.find(([value]) => String(value) === text)[0];
  select.addEventListener("change", () => { model.set(trait, typed(select.value)); model.save_changes(); });
  model.on(`change:${trait}`, show);
  show();
  return { select, box, stop: () => model.off(`change:${trait}`, show) };
}

// A check box for a trait that is true or false.
function toggle(model, parent, trait, label) {
  const box = node(parent, "label", { class: "l3-control l3-toggle" });
  const input = keepKeys(node(box, "input", { type: "checkbox", "data-trait": trait }));
  node(box, "span", { class: "l3-label" }, label);
  const show = () => { input.checked = Boolean(model.get(trait)); };
  input.addEventListener("change", () => { model.set(trait, input.checked); model.save_changes(); });
  model.on(`change:${trait}`, show);
  show();
  return { input, box, stop: () => model.off(`change:${trait}`, show) };
}

function button(parent, label, onPress) {
  const made = keepKeys(node(parent, "button", { type: "button", class: "l3-button" }, label));
  made.addEventListener("click", onPress);
  return made;
}

// Draw now and whenever one of these traits changes; returns what ends it, and stops the parts.
function redrawn(model, traits, draw, parts) {
  for (const trait of traits) model.on(`change:${trait}`, draw);
  draw();
  return () => {
    for (const trait of traits) model.off(`change:${trait}`, draw);
    for (const part of parts) part.stop();
  };
}

// The picture's numbers as a table, folded away; `fill(rows)` replaces its content.
function tableTwin(parent, caption) {
  const details = node(parent, "details", { class: "l3-table" });
  keepKeys(node(details, "summary", {}, "The same as a table"));
  const scroll = node(details, "div", { class: "l3-scroll", tabindex: 0, role: "region", "aria-label": caption });
  keepKeys(scroll);
  const table = node(scroll, "table");
  return (rows) => {
    table.replaceChildren();
    node(table, "caption", {}, caption);
    if (!rows.length) return;
    const head = node(node(table, "thead"), "tr");
    for (const key of Object.keys(rows[0])) node(head, "th", { scope: "col" }, key);
    const body = node(table, "tbody");
    for (const row of rows) {
      const line = node(body, "tr");
      for (const value of Object.values(row)) node(line, "td", {}, String(value));
    }
  };
}

// An SVG picture with a name and a description for screen readers; `describe` renews both.
function picture(parent, { width, height }) {
  const plot = svg(parent, "svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", role: "img", class: "l3-picture" });
  const title = svg(plot, "title"), description = svg(plot, "desc");
  title.id = uniqueId("title"); description.id = uniqueId("desc");
  plot.setAttribute("aria-labelledby", title.id);
  plot.setAttribute("aria-describedby", description.id);
  return { plot, describe: (name, words) => { title.textContent = name; description.textContent = words; } };
}

// 268,000 or 16.3T: so many digits, and a letter from a million on.
export function withUnit(value, digits = 3) {
  const [size, unit] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [0, ""]].find(([least]) => value >= least);
  const short = Number((value / (size || 1)).toPrecision(digits));
  return short.toLocaleString("en-US", { maximumFractionDigits: 20 }) + unit;
}

// 3.8e25, as budgets are written.
export function flopsText(value) {
  const [digits, power] = value.toExponential(2).split("e");
  return `${Number(digits)}e${Number(power)}`;
}

const thousands = (value) => Math.round(value).toLocaleString("en-US");
