// Grouped-query attention explorer. Pure functions first (tested in node against Python), drawing last.

const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7"]; // neighbours differ; every second group is hollow
const BARS = { x: 232, y: 282, width: 540, step: 38 };
const GIB = 2 ** 30;

export function kvHeadChoices(heads) {
  return Array.from({ length: heads }, (_, i) => heads - i).filter((k) => heads % k === 0);
}

export function sharing(heads, kvHeads) {
  return Array.from({ length: heads }, (_, head) => Math.floor(head / (heads / kvHeads)));
}

// Keys and values of every layer, 2 bytes a number; weights shrink with wk and wv.
export function cacheCost(shape, kvHeads, context) {
  const perToken = 2 * shape.layers * kvHeads * shape.head_dim * 2;
  const weights = 2 * (shape.other_parameters + kvHeads * shape.parameters_per_kv_head);
  return {
    kv_heads: kvHeads, group: shape.heads / kvHeads, bytes_per_token: perToken,
    cache_bytes: perToken * context, weight_bytes: weights, traffic_bytes: weights + perToken * context,
  };
}

export function compare(shape, kvHeads, context) {
  return [
    ["one each (MHA)", shape.heads], ["your choice", kvHeads],
    ["released (GQA)", shape.released], ["one for all (MQA)", 1],
  ].map(([name, heads]) => [name, cacheCost(shape, heads, context)]);
}

export function giga(bytes) {
  const size = bytes / GIB;
  if (size < 1) return `${Number((size * 1024).toPrecision(4))} MiB`;
  if (size >= 100) return `${thousands(size)} GiB`;
  return size >= 10 ? `${size.toFixed(1)} GiB` : `${Number(size.toPrecision(4))} GiB`;
}

export function kibi(bytes) {
  const size = bytes / 1024;
  return size >= 1024 ? `${Number((size / 1024).toPrecision(4))} MiB` : `${Number(size.toPrecision(4))} KiB`;
}

export function headline(name, shape, kvHeads, context) {
  const cost = cacheCost(shape, kvHeads, context);
  if (cost.group === 1) return `${name}: no sharing, a cache of ${giga(cost.cache_bytes)} at ${thousands(context)} tokens`;
  return `${name}: ${cost.group} query heads share each KV head, a cache ${cost.group} times smaller`;
}

export function trafficNote(cost) {
  return `To decode one token of one sequence: read ${giga(cost.cache_bytes)} of cache + ${giga(cost.weight_bytes)} of weights = ${giga(cost.traffic_bytes)}`;
}

const headXs = (n) => Array.from({ length: n }, (_, i) => 20 + (960 * (i + 0.5)) / n);

function box(parent, x, y, wide, high, colour, hollow, words) {
  const rect = svg(parent, "rect", {
    x: x - wide / 2, y, width: wide, height: high, rx: 2, stroke: colour, class: hollow ? "head hollow" : "head", fill: colour,
  });
  svg(rect, "title", {}, words);
}

function drawSharing(layer, shape, kvHeads) {
  layer.replaceChildren();
  const queries = headXs(shape.heads), keys = headXs(kvHeads), group = shape.heads / kvHeads;
  const wide = Math.min((960 / shape.heads) * 0.72, 22), kvWide = Math.min((960 / kvHeads) * 0.72, 90);
  svg(layer, "text", { x: 20, y: 20, class: "soft" }, `${shape.heads} query heads`);
  sharing(shape.heads, kvHeads).forEach((kv, head) => {
    const colour = COLOURS[kv % COLOURS.length];
    svg(layer, "line", { x1: queries[head], y1: 52, x2: keys[kv], y2: 150, stroke: colour, class: "wire" });
    box(layer, queries[head], 30, wide, 22, colour, kv % 2 === 1, `query head ${head} reads KV head ${kv}`);
  });
  keys.forEach((x, kv) => {
    const range = group === 1 ? `query head ${kv}` : `query heads ${kv * group} to ${(kv + 1) * group - 1}`;
    box(layer, x, 150, kvWide, 34, COLOURS[kv % COLOURS.length], kv % 2 === 1, `KV head ${kv}, read by ${range}`);
    if (kvWide >= 44) svg(layer, "text", { x, y: 173, "text-anchor": "middle", class: kv % 2 ? "" : "on-colour" }, `KV ${kv}`);
  });
  const mark = kvHeads === shape.released ? " · this is what was released" : "";
  svg(layer, "text", { x: 20, y: 208, class: "soft" }, `${kvHeads} KV head${kvHeads > 1 ? "s" : ""}: only these are cached${mark}`);
}

function makeBars(plot) {
  const heading = svg(plot, "text", { x: 20, y: 260, class: "big" });
  const bars = Array.from({ length: 4 }, (_, i) => {
    const y = BARS.y + i * BARS.step;
    return {
      name: svg(plot, "text", { x: BARS.x - 12, y: y + 20, "text-anchor": "end" }),
      rect: svg(plot, "rect", { x: BARS.x, y, height: 28, class: i === 1 ? "bar chosen" : "bar" }),
      amount: svg(plot, "text", { y: y + 20 }),
    };
  });
  const note = svg(plot, "text", { x: 20, y: 456, class: "big" });
  return (rows, context) => {
    heading.textContent = `KV cache of one sequence of ${thousands(context)} tokens`;
    rows.forEach(([name, cost], i) => {
      const length = (BARS.width * cost.cache_bytes) / rows[0][1].cache_bytes, inside = length > 400;
      bars[i].name.textContent = `${name}: ${cost.kv_heads}`;
      bars[i].rect.setAttribute("width", Math.max(length, 2));
      bars[i].amount.textContent = `${giga(cost.cache_bytes)} · ${kibi(cost.bytes_per_token)} a token`;
      bars[i].amount.setAttribute("x", BARS.x + length + (inside ? -10 : 10));
      bars[i].amount.setAttribute("text-anchor", inside ? "end" : "start");
      bars[i].amount.setAttribute("class", inside && i === 1 ? "on-colour" : "");
    });
    note.textContent = trafficNote(rows[1][1]);
  };
}

const tableRows = (rows) => rows.map(([name, cost]) => ({
  "KV heads": `${cost.kv_heads}, ${name}`, "query heads on each": cost.group,
  "cache per token": kibi(cost.bytes_per_token), cache: giga(cost.cache_bytes),
  "read to decode one token": giga(cost.traffic_bytes),
}));

function render({ model, el }) {
  const models = model.get("models");
  const shape = () => models[model.get("model")];
  const view = frame(el, { title: "", name: "gqa" });
  const pick = choice(model, view.controls, "model", "model", Object.keys(models).map((name) => [name, name]));
  const words = (k) => k === shape().released ? `${k} (released)` : k === 1 ? "1 (MQA)" : k === shape().heads ? `${k} (MHA)` : String(k);
  const heads = slider(model, view.controls, "kv_heads", "KV heads", { stops: kvHeadChoices(shape().heads), text: words });
  const length = slider(model, view.controls, "context", "tokens", { stops: model.get("contexts"), text: thousands });
  const { plot, describe } = picture(view.root, { width: 1000, height: 470 });
  plot.setAttribute("viewBox", "18 0 964 470");
  const layer = svg(plot, "g");
  const bars = makeBars(plot);
  const table = tableTwin(view.root, "Cost of each number of KV heads");
  let shown = "";

  const draw = () => {
    const name = model.get("model"), kvHeads = model.get("kv_heads"), context = model.get("context");
    if (shape().heads % kvHeads) return; // between two models, for a moment
    const rows = compare(shape(), kvHeads, context), title = headline(name, shape(), kvHeads, context);
    if (shown !== `${name} ${kvHeads}`) drawSharing(layer, shape(), kvHeads);
    shown = `${name} ${kvHeads}`;
    bars(rows, context);
    view.setTitle(title);
    describe(title, tableRows(rows).map((row) => Object.values(row).join(", ")).join("; "));
    table(tableRows(rows));
    view.root.dataset.cache = rows[1][1].cache_bytes;
    view.say(`${title}. ${giga(rows[1][1].cache_bytes)} at ${thousands(context)} tokens.`);
    drawn(view.root);
  };
  const changeModel = () => {
    const most = shape().heads;
    if (most % model.get("kv_heads")) { model.set("kv_heads", most); model.save_changes(); }
    heads.setStops(kvHeadChoices(most));
    draw();
  };
  model.on("change:model", changeModel);
  model.on("change:kv_heads", draw);
  model.on("change:context", draw);
  draw();
  return () => {
    model.off("change:model", changeModel);
    model.off("change:kv_heads", draw);
    model.off("change:context", draw);
    pick.stop(); heads.stop(); length.stop(); view.stop();
  };
}

export default { render };
