// Tokenizers side by side: the kernel cuts, the browser shows.

const visible = (piece) => piece.replaceAll("\n", "⏎").replaceAll(" ", "·").replaceAll("\t", "→");

export function headline(rows) {
  const best = rows.reduce((least, row) => (row.count < least.count ? row : least));
  return `Fewest pieces: ${best.name}, ${best.per_token.toFixed(2)} characters a token`;
}

function render({ model, el }) {
  const view = frame(el, { title: "", name: "tokenizers" });
  const label = node(view.controls, "label", { class: "l3-control wide" });
  node(label, "span", { class: "l3-label" }, "text");
  const input = keepKeys(node(label, "textarea", { rows: 2, maxlength: 400, "data-trait": "text", spellcheck: "false" }));
  input.value = model.get("text");
  const body = node(view.root, "div", { class: "ways" });
  const table = tableTwin(view.root, "Tokens of each way to cut");

  const draw = () => {
    const rows = model.get("rows");
    if (!rows.length) return;
    if (input.value !== model.get("text")) input.value = model.get("text");
    body.replaceChildren();
    for (const row of rows) {
      const way = node(body, "div", { class: "way" });
      node(way, "div", { class: "name" }, `${row.name}: ${thousands(row.count)} tokens, ${row.per_token.toFixed(2)} characters each`);
      const line = node(way, "div", { class: "pieces", "aria-hidden": "true" });
      row.pieces.forEach((piece, i) => node(line, "span", { class: i % 2 ? "piece odd" : "piece" }, visible(piece)));
    }
    table(rows.map((row) => ({ way: row.name, tokens: row.count, "characters a token": row.per_token.toFixed(2) })));
    view.setTitle(headline(rows));
    view.root.dataset.counts = rows.map((row) => row.count).join(" ");
    view.say(headline(rows));
    drawn(view.root);
  };
  const typed = () => { model.set("text", input.value); model.save_changes(); };
  input.addEventListener("input", typed);
  model.on("change:rows", draw);
  draw();
  return () => { model.off("change:rows", draw); view.stop(); };
}

export default { render };
