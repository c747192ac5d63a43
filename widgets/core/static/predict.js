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
    node(
      line,
      "span",
      { class: option.sign === "✓" ? "l3-good" : "l3-bad" },
      `${option.sign} ${option.text}`,
    );
    node(line, "span", {}, `: ${option.why}`);
  }
  parts.say(card.told);
  drawn(parts.root);
  return () => parts.stop();
}

// "from 0 to 5", "up to 5", "of at least 0": the numbers that may be guessed.
function rangeWords(low, high) {
  if (low === null) return `up to ${high}`;
  return high === null ? `of at least ${low}` : `from ${low} to ${high}`;
}

class Prediction {
  constructor(model, el) {
    this.model = model;
    this.choices = model.get("choices");
    this.parts = frame(el, { title: "Predict", name: "predict" });
    const { root } = this.parts;
    node(root, "p", { class: "l3-predict-question" }, model.get("question"));
    this.row = node(root, "div", { class: "l3-controls" });
    this.told = node(root, "p", { class: "l3-note" });
    if (this.choices.length) this.makeChoices();
    else this.makeNumber();
    this.press = button(this.row, "Lock it in", () => this.lock());
    this.show();
  }

  makeChoices() {
    const name = uniqueId("predict");
    const label = this.model.get("question");
    const set = { class: "l3-predict-choices", "aria-label": label };
    const field = node(this.row, "fieldset", set);
    for (const words of this.choices) {
      const line = node(field, "label", { class: "l3-control" });
      keepKeys(node(line, "input", { type: "radio", name, value: words }));
      node(line, "span", {}, words);
    }
  }

  makeNumber() {
    const { model } = this;
    const box = node(this.row, "label", { class: "l3-control" });
    node(box, "span", { class: "l3-label" }, "My guess");
    const range = { type: "number", step: "any", min: model.get("low"), max: model.get("high") };
    this.input = keepKeys(node(box, "input", range));
    node(box, "span", {}, model.get("unit"));
    this.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      this.lock();
    });
  }

  complain(words) {
    this.told.textContent = words;
    this.parts.say(words);
  }

  // The guess; null after a complaint that there is none, or none that may be.
  guess() {
    if (this.choices.length) {
      const chosen = this.row.querySelector("input:checked");
      if (!chosen) this.complain("Choose one first.");
      return chosen?.value ?? null;
    }
    const [low, high] = [this.model.get("low"), this.model.get("high")];
    const value = Number(this.input.value);
    if (this.input.value === "" || !Number.isFinite(value)) {
      this.complain("Type a number first.");
      return null;
    }
    if ((low === null || value >= low) && (high === null || value <= high)) return value;
    this.complain(`A number ${rangeWords(low, high)}, please.`);
    return null;
  }

  lock() {
    const value = this.guess();
    if (value === null) return;
    this.model.set("value", value);
    this.model.set("locked", true);
    this.model.save_changes();
  }

  show() {
    const [locked, value] = [this.model.get("locked"), this.model.get("value")];
    for (const control of this.row.querySelectorAll("input")) {
      control.disabled = locked;
      if (control.type !== "radio" && locked) control.value = value;
      else if (control.type === "radio" && locked) control.checked = control.value === value;
    }
    this.press.disabled = locked;
    this.told.classList.toggle("l3-good", locked);
    const unit = this.choices.length ? "" : this.model.get("unit");
    if (locked) this.complain(`${`✓ Locked: ${value} ${unit}`.trim()}. Now run the next cell.`);
    drawn(this.parts.root);
  }
}

function ask(model, el) {
  const prediction = new Prediction(model, el);
  const show = () => prediction.show();
  model.on("change:locked", show);
  return () => {
    model.off("change:locked", show);
    prediction.parts.stop();
  };
}

export default { render };
