// A prediction that can be locked once: a number, or one of several choices; and the card that
// answers it.

function render({ model, el }) {
  return model.get("card") ? answer(model.get("card"), el) : ask(model, el);
}

function answer(card, el) {
  const parts = frame(el, { title: "Answer", name: "predict" });
  if (card.question) node(parts.root, "p", { class: "l3-predict-question" }, card.question);
  node(parts.root, "p", { class: `l3-predict-told${card.good ? " l3-good" : ""}` }, card.told);
  if (card.why) node(parts.root, "p", { class: "l3-predict-why" }, card.why);
  const list = card.options.length ? node(parts.root, "ul", { class: "l3-predict-whys" }) : null;
  for (const option of card.options) {
    const line = node(list, "li");
    node(line, "span", { class: option.sign === "✓" ? "l3-good" : "l3-bad" }, `${option.sign} ${option.text}`);
    node(line, "span", {}, `: ${option.why}`);
  }
  parts.say(card.told);
  drawn(parts.root);
  return () => parts.stop();
}

function ask(model, el) {
  const parts = frame(el, { title: "Predict", name: "predict" });
  node(parts.root, "p", { class: "l3-predict-question" }, model.get("question"));
  const row = node(parts.root, "div", { class: "l3-controls" });
  const told = node(parts.root, "p", { class: "l3-note" });
  const choices = model.get("choices"), group = uniqueId("predict");
  let input = null;
  if (choices.length) {
    const field = node(row, "fieldset", { class: "l3-predict-choices", "aria-label": model.get("question") });
    for (const words of choices) {
      const line = node(field, "label", { class: "l3-control" });
      keepKeys(node(line, "input", { type: "radio", name: group, value: words }));
      node(line, "span", {}, words);
    }
  } else {
    const box = node(row, "label", { class: "l3-control" });
    node(box, "span", { class: "l3-label" }, "My guess");
    input = keepKeys(node(box, "input", { type: "number", step: "any", min: model.get("low"), max: model.get("high") }));
    node(box, "span", {}, model.get("unit"));
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); lock(); } });
  }
  const press = button(row, "Lock it in", lock);

  function chosen() {
    if (choices.length) return row.querySelector("input:checked")?.value ?? null;
    const low = model.get("low"), high = model.get("high");
    if (input.value === "" || !Number.isFinite(Number(input.value))) return null;
    const value = Number(input.value);
    if ((low !== null && value < low) || (high !== null && value > high)) {
      complain(`A number ${low === null ? `up to ${high}` : high === null ? `of at least ${low}` : `from ${low} to ${high}`}, please.`);
      return undefined;
    }
    return value;
  }
  function complain(text) { told.textContent = text; parts.say(text); }
  function lock() {
    const value = chosen();
    if (value === undefined) return;
    if (value === null) { complain(choices.length ? "Choose one first." : "Type a number first."); return; }
    model.set("value", value);
    model.set("locked", true);
    model.save_changes();
  }
  function show() {
    const locked = model.get("locked"), value = model.get("value");
    for (const control of row.querySelectorAll("input")) {
      control.disabled = locked;
      if (control.type === "radio") control.checked = locked ? control.value === value : control.checked;
      else if (locked) control.value = value;
    }
    press.disabled = locked;
    told.classList.toggle("l3-good", locked);
    if (locked) complain(`✓ Locked: ${value} ${choices.length ? "" : model.get("unit")}`.trim() + ". Now run the next cell.");
    drawn(parts.root);
  }
  model.on("change:locked", show);
  show();
  return () => { model.off("change:locked", show); parts.stop(); };
}

export default { render };
