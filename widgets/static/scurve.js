// MinHash S-curve explorer. Pure functions first (tested in node against Python), drawing last.

const PLOT = { x: 80, y: 40, width: 880, height: 300 };
const NUMBERS = 256;

export function probability(jaccard, bands, rows) {
  return 1 - (1 - jaccard ** rows) ** bands;
}

export function halfWay(bands, rows) {
  let low = 0, high = 1;
  for (let i = 0; i < 40; i++) {
    const middle = (low + high) / 2;
    if (probability(middle, bands, rows) < 0.5) low = middle; else high = middle;
  }
  return (low + high) / 2;
}

export function fittingBands(choices, bands, rows) {
  return Math.max(1, ...choices.filter((b) => b <= bands && b * rows <= NUMBERS));
}

export function isFound(agree, bands, rows) {
  const whole = "1".repeat(rows);
  for (let band = 0; band < bands; band++) {
    if (agree.slice(band * rows, (band + 1) * rows) === whole) return true;
  }
  return false;
}

export function foundShares(pairs, bands, rows) {
  const tenths = Array.from({ length: 10 }, (_, tenth) => ({ tenth, pairs: 0, found: 0, expected: 0 }));
  for (const [jaccard, agree] of pairs) {
    const row = tenths[Math.min(Math.floor(jaccard * 10), 9)];
    row.pairs += 1;
    row.found += isFound(agree, bands, rows) ? 1 : 0;
    row.expected += probability(jaccard, bands, rows);
  }
  return tenths.filter((row) => row.pairs > 0);
}

export function headline(bands, rows) {
  return `${bands} × ${rows}: half of the pairs are found at a similarity of ${halfWay(bands, rows).toFixed(2)}`;
}

const across = (jaccard) => PLOT.x + PLOT.width * jaccard;
const up = (share) => PLOT.y + PLOT.height * (1 - share);

function axes(plot) {
  for (let mark = 0; mark <= 10; mark += 2) {
    svg(plot, "line", { x1: across(mark / 10), x2: across(mark / 10), y1: up(0), y2: up(1), class: "grid" });
    svg(plot, "line", { x1: across(0), x2: across(1), y1: up(mark / 10), y2: up(mark / 10), class: "grid" });
    svg(plot, "text", { x: across(mark / 10), y: up(0) + 34, "text-anchor": "middle", class: "soft" }, (mark / 10).toFixed(1));
    svg(plot, "text", { x: PLOT.x - 10, y: up(mark / 10) + 5, "text-anchor": "end", class: "soft" }, `${mark * 10} %`);
  }
  svg(plot, "text", { x: across(0.5), y: up(0) + 62, "text-anchor": "middle" }, "exact Jaccard similarity of the two texts");
  svg(plot, "text", { x: PLOT.x - 60, y: 16, class: "soft" }, "chance to share a band");
}

function point(layer, jaccard, found, place) {
  const x = across(jaccard), lift = 12 * (place % 5) / 5;
  if (found) svg(layer, "circle", { cx: x, cy: up(1) - 4 - lift, r: 4, class: "found" });
  else {
    const y = up(0) + 4 + lift;
    svg(layer, "path", { d: `M${x} ${y - 5}l5 5l-5 5l-5 -5z`, class: "missed" });
  }
}

function render({ model, el }) {
  const choices = model.get("band_choices");
  const view = frame(el, { title: "", name: "scurve" });
  const bandSlider = slider(model, view.controls, "bands", "bands", { stops: choices });
  const rowSlider = slider(model, view.controls, "rows", "rows in a band", { min: 1, max: 16 });
  const { plot, describe } = picture(view.root, { width: 1000, height: 420 });
  axes(plot);
  const curve = svg(plot, "polyline", { class: "curve" });
  const half = svg(plot, "line", { class: "half" });
  const layer = svg(plot, "g");
  const note = node(view.root, "p", { class: "l3-note" });
  const table = tableTwin(view.root, "Pairs found, by similarity");

  const draw = () => {
    const rows = model.get("rows"), bands = fittingBands(choices, model.get("bands"), rows);
    const pairs = model.get("pairs"), title = headline(bands, rows);
    curve.setAttribute("points", Array.from({ length: 101 }, (_, i) => `${across(i / 100)},${up(probability(i / 100, bands, rows))}`).join(" "));
    const middle = across(halfWay(bands, rows));
    for (const [name, value] of [["x1", middle], ["x2", middle], ["y1", up(0)], ["y2", up(0.5)]]) half.setAttribute(name, value);
    layer.replaceChildren();
    pairs.forEach(([jaccard, agree], place) => point(layer, jaccard, isFound(agree, bands, rows), place));
    const shares = foundShares(pairs, bands, rows);
    const found = shares.reduce((sum, row) => sum + row.found, 0);
    const tooMany = model.get("bands") !== bands ? ` (${model.get("bands")} bands of ${rows} would need more)` : "";
    note.textContent = `● found: ${found} of ${pairs.length} real pairs · ◆ missed: ${pairs.length - found} · ${bands * rows} of ${NUMBERS} numbers are used${tooMany}`;
    view.setTitle(title);
    describe(title, note.textContent);
    table(shares.map((row) => ({
      similarity: `${(row.tenth / 10).toFixed(1)} to ${(row.tenth / 10 + 0.1).toFixed(1)}`,
      pairs: row.pairs, found: row.found, expected: row.expected.toFixed(1),
    })));
    view.root.dataset.found = found;
    view.say(`${title}. ${found} of ${pairs.length} pairs found.`);
    drawn(view.root);
  };
  for (const trait of ["bands", "rows", "pairs"]) model.on(`change:${trait}`, draw);
  draw();
  return () => {
    for (const trait of ["bands", "rows", "pairs"]) model.off(`change:${trait}`, draw);
    bandSlider.stop(); rowSlider.stop(); view.stop();
  };
}

export default { render };
