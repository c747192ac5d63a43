// Needle tests as a map. Pure functions first (tested in node against Python), drawing last.

const SIGNS = ["○", "◐", "●"], WORDS = ["lost", "partly", "found"];
const MAP = { x: 100, y: 34, width: 880, row: 54, widest: 150 };

export function level(share, threshold) {
  const needed = threshold / 100;
  return share >= needed ? 2 : share >= needed / 2 ? 1 : 0;
}

// How many lengths pass the gate, from the shortest on: found at all depths of it and of shorter ones.
export function passed(grid, threshold) {
  const fails = grid.found.findIndex((row, i) => row.some((found, j) => found / grid.tries[i][j] < threshold / 100));
  return fails < 0 ? grid.lengths.length : fails;
}

export function headline(name, grid, threshold) {
  const count = passed(grid, threshold);
  if (!count) return `${name}: no length passes at ${threshold}%`;
  const most = count === grid.lengths.length ? ", all that were tried" : "";
  return `${name}: found up to ${thousands(grid.lengths[count - 1])} tokens at ${threshold}%${most}`;
}

export function percent(share) {
  const whole = Math.floor(100 * share + 0.5);
  return `${Math.min(Math.max(whole, share > 0 ? 1 : 0), share < 1 ? 99 : 100)}%`;
}

export function cellWords(grid, i, j, threshold) {
  const found = grid.found[i][j], tries = grid.tries[i][j], nats = grid.nats[i][j], how = level(found / tries, threshold);
  const loss = nats === null ? "nats not finite" : `${nats.toFixed(2)} nats a token`;
  return `length ${thousands(grid.lengths[i])}, depth ${grid.depths[j]}: ${thousands(found)} of ${thousands(tries)} found (${percent(found / tries)}), ${loss}: ${SIGNS[how]} ${WORDS[how]}`;
}

export function legend(threshold) {
  const half = `${threshold / 2}%`;
  return [`lost: below ${half}`, `partly: from ${half} on`, `found: from ${threshold}% on`];
}

export function tableRows(grid, threshold) {
  return grid.lengths.flatMap((length, i) => grid.depths.map((depth, j) => {
    const found = grid.found[i][j], tries = grid.tries[i][j], nats = grid.nats[i][j];
    return {
      length: thousands(length), depth: String(depth), found: thousands(found), tries: thousands(tries), share: percent(found / tries),
      nats: nats === null ? "–" : nats.toFixed(2), "counts as": WORDS[level(found / tries, threshold)],
    };
  }));
}

// A full, half or empty circle.
function drawSign(layer, x, y, how, size = 6) {
  svg(layer, "circle", { cx: x, cy: y, r: size, class: how === 2 ? "sign full" : "sign" });
  if (how === 1) svg(layer, "path", { d: `M${x} ${y - size}a${size} ${size} 0 0 0 0 ${2 * size}z`, class: "sign full" });
}

const wideOf = (grid) => Math.min(MAP.widest, MAP.width / grid.lengths.length);

function drawCells(layer, grid, threshold, stem, choose) {
  const wide = wideOf(grid), scale = Math.min(1, wide / 78);
  grid.depths.forEach((depth, j) => {
    const y = MAP.y + MAP.row * j, row = svg(layer, "g", { role: "row" });
    svg(row, "text", { x: MAP.x - 12, y: y + MAP.row / 2 + 5, "text-anchor": "end", class: "soft", role: "rowheader" }, String(depth));
    grid.lengths.forEach((_, i) => {
      const x = MAP.x + wide * i, share = grid.found[i][j] / grid.tries[i][j];
      const cell = svg(row, "g", { role: "gridcell", id: `${stem}-${i}-${j}`, class: "cell", "aria-label": cellWords(grid, i, j, threshold) });
      svg(cell, "rect", { x: x + 1, y: y + 1, width: wide - 2, height: MAP.row - 2, class: "share", "fill-opacity": (0.06 + 0.94 * share).toFixed(3) });
      drawSign(cell, x + wide / 2 - 28 * scale, y + MAP.row / 2, level(share, threshold), 6 * scale);
      svg(cell, "text", { x: x + wide / 2 + 10 * scale, y: y + MAP.row / 2 + 6, "text-anchor": "middle", class: "number", style: `font-size: ${(17 * scale).toFixed(1)}px` }, percent(share));
      cell.addEventListener("click", () => choose(i, j));
    });
  });
}

function drawRest(layer, grid, threshold) {
  const wide = wideOf(grid), low = MAP.y + MAP.row * grid.depths.length, count = passed(grid, threshold);
  svg(layer, "text", { x: MAP.x - 12, y: MAP.y - 12, "text-anchor": "end", class: "soft" }, "depth");
  grid.lengths.forEach((length, i) => svg(layer, "text", { x: MAP.x + wide * (i + 0.5), y: low + 24, "text-anchor": "middle", class: "soft" }, thousands(length)));
  svg(layer, "text", { x: MAP.x, y: low + 50 }, "length in tokens; the frame holds what passes the gate");
  if (count) svg(layer, "rect", { x: MAP.x, y: MAP.y, width: wide * count, height: MAP.row * grid.depths.length, class: "gate" });
  legend(threshold).forEach((words, how) => {
    const x = MAP.x + 6 + 230 * (2 - how);
    drawSign(layer, x, low + 76, how);
    svg(layer, "text", { x: x + 14, y: low + 81 }, words);
  });
}

function render({ model, el }) {
  const grids = model.get("grids"), stem = uniqueId("cell");
  const view = frame(el, { title: "", name: "needles" });
  const which = choice(model, view.controls, "grid", "grid", Object.keys(grids).map((name) => [name, name]));
  const level_ = slider(model, view.controls, "threshold", "counts as found from", { min: 5, max: 100, step: 5, text: (v) => `${v}%` });
  const { plot, describe } = picture(view.root, { width: 1000, height: 100 });
  plot.setAttribute("role", "group"); // its cells can be walked through, so it is not one flat image
  const map = keepKeys(svg(plot, "g", { role: "grid", tabindex: 0, class: "map", "aria-label": "shares found, by length and depth" }));
  const rest = svg(plot, "g"), cursor = svg(plot, "rect", { class: "cursor" });
  const detail = node(view.root, "p", { class: "l3-note detail" });
  const table = tableTwin(view.root, "Needles found, by length and depth");

  const shown = () => grids[model.get("grid")];
  const place = () => {
    const [i, j] = model.get("cell"), grid = shown();
    return [Math.min(i, grid.lengths.length - 1), Math.min(j, grid.depths.length - 1)];
  };
  const choose = (i, j) => { model.set("cell", [i, j]); model.save_changes(); };
  const mark = () => {
    const [i, j] = place(), wide = wideOf(shown());
    const box = { x: MAP.x + wide * i + 4, y: MAP.y + MAP.row * j + 4, width: wide - 8, height: MAP.row - 8 };
    for (const [name, value] of Object.entries(box)) cursor.setAttribute(name, value);
    map.setAttribute("aria-activedescendant", `${stem}-${i}-${j}`);
    detail.textContent = cellWords(shown(), i, j, model.get("threshold"));
    view.root.dataset.cell = `${i},${j}`;
    drawn(view.root);
  };
  const draw = () => {
    const grid = shown(), threshold = model.get("threshold"), title = headline(model.get("grid"), grid, threshold);
    plot.setAttribute("viewBox", `0 0 1000 ${MAP.y + MAP.row * grid.depths.length + 94}`);
    map.replaceChildren(); rest.replaceChildren();
    drawCells(map, grid, threshold, stem, (i, j) => { choose(i, j); map.focus(); });
    drawRest(rest, grid, threshold);
    view.setTitle(title);
    describe(title, legend(threshold).join("; "));
    table(tableRows(grid, threshold));
    view.root.dataset.passed = passed(grid, threshold);
    view.say(title);
    mark();
  };
  const keys = (event) => {
    const [i, j] = place(), grid = shown();
    const to = {
      ArrowRight: [i + 1, j], ArrowLeft: [i - 1, j], ArrowDown: [i, j + 1], ArrowUp: [i, j - 1], Home: [0, j], End: [grid.lengths.length - 1, j],
    }[event.key];
    if (!to) return;
    event.preventDefault();
    choose(...to.map((n, axis) => Math.min(Math.max(n, 0), [grid.lengths, grid.depths][axis].length - 1)));
  };
  map.addEventListener("keydown", keys);
  model.on("change:grid", draw); model.on("change:threshold", draw); model.on("change:cell", mark);
  draw();
  return () => {
    model.off("change:grid", draw); model.off("change:threshold", draw); model.off("change:cell", mark);
    which.stop(); level_.stop(); view.stop();
  };
}

export default { render };
