// The measured funnel. Pure functions first (tested in node against Python), drawing last.

const BARS = { x: 170, y: 12, width: 560, step: 33 };
const KEPT = "kept";

export function headline(rows) {
  if (!rows.length) return "No steps";
  const first = rows[0].in, last = rows[rows.length - 1].out;
  return `Of ${thousands(first)} documents ${thousands(last)} are left (${Math.round((100 * last) / Math.max(1, first))}%)`;
}

export function told(row) {
  const reasons = row.reasons.map(([reason, n]) => `${reason} ${thousands(n)}`).join(", ");
  return `${thousands(row.in)} in, ${thousands(row.out)} out${reasons ? `: ${reasons}` : ""}`;
}

function drawBars(plot, rows, chosen, onChoose) {
  const most = Math.max(1, ...rows.map((row) => row.in));
  return rows.map((row, place) => {
    const y = BARS.y + BARS.step * place, unit = BARS.width / most, lost = row.in - row.out;
    const group = svg(plot, "g", { class: "row" });
    svg(group, "rect", { x: 0, y: y - 4, width: 1000, height: BARS.step - 1, class: "back" });
    svg(group, "text", { x: BARS.x - 12, y: y + 17, "text-anchor": "end" }, row.step);
    svg(group, "rect", { x: BARS.x, y, width: unit * row.in, height: 24, class: "in" });
    svg(group, "rect", { x: BARS.x, y, width: unit * row.out, height: 24, class: "out" });
    svg(group, "text", { x: BARS.x + unit * row.in + 10, y: y + 17 }, `${thousands(row.out)}${lost ? `  (−${thousands(lost)})` : ""}`);
    group.addEventListener("click", () => onChoose(row.step));
    return { step: row.step, group };
  });
}

function render({ model, el }) {
  const rows = model.get("rows"), all = model.get("journeys");
  const view = frame(el, { title: headline(rows), name: "funnel" });
  const fell = rows.map((row) => row.step).filter((step) => (all[step] || []).length);
  const options = [...fell.map((step) => [step, `fell at ${step}`]), [KEPT, "kept to the end"]];
  const steps = choice(model, view.controls, "step", "documents that", options);
  const which = slider(model, view.controls, "document", "document", { min: 0, max: 1, text: (i) => `number ${i + 1}` });
  const { plot, describe } = picture(view.root, { width: 1000, height: BARS.y + BARS.step * rows.length });
  describe(headline(rows), rows.map((row) => `${row.step}: ${told(row)}`).join("; "));
  const choose = (step) => { if (step === KEPT || fell.includes(step)) { model.set("step", step); model.set("document", 0); model.save_changes(); } };
  const marks = drawBars(plot, rows, model.get("step"), choose);
  const happened = node(view.root, "p", { class: "l3-note" });
  const card = node(view.root, "div", { class: "card" });
  const address = node(card, "div", { class: "address" });
  const verdict = node(card, "div", { class: "verdict" });
  const text = keepKeys(node(card, "pre", { class: "text", tabindex: 0, "aria-label": "The document's text" }));
  const table = tableTwin(view.root, "What each step did");
  table(rows.map((row) => ({ step: row.step, in: row.in, out: row.out, "what happened": told(row) })));

  const draw = () => {
    const step = model.get("step"), found = all[step] || [];
    const place = Math.min(model.get("document"), Math.max(0, found.length - 1));
    which.setMax(Math.max(0, found.length - 1));
    for (const mark of marks) mark.group.classList.toggle("chosen", mark.step === step);
    const row = rows.find((one) => one.step === step);
    happened.textContent = row ? `${row.step}: ${told(row)}` : `kept: ${thousands(rows.length ? rows[rows.length - 1].out : 0)} documents came through all steps`;
    const shown = found[place];
    card.hidden = !shown;
    if (shown) {
      address.textContent = shown.address;
      verdict.textContent = step === KEPT ? "✓ kept" : `✗ ${shown.reason}${shown.detail ? ` · ${shown.detail}` : ""}`;
      verdict.className = step === KEPT ? "verdict l3-good" : "verdict l3-bad";
      text.textContent = shown.text || "(no text)";
    }
    view.root.dataset.shown = shown ? `${step}/${place}/${shown.reason}` : `${step}/none`;
    view.say(shown ? `${verdict.textContent}. ${shown.address}` : happened.textContent);
    drawn(view.root);
  };
  for (const trait of ["step", "document"]) model.on(`change:${trait}`, draw);
  draw();
  return () => {
    for (const trait of ["step", "document"]) model.off(`change:${trait}`, draw);
    steps.stop(); which.stop(); view.stop();
  };
}

export default { render };
