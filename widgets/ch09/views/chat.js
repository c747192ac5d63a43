// A panel to talk to an engine. All text from people and models goes in by textContent, never as
// HTML.

const PATIENCE = 4000; // milliseconds until a silent kernel is mentioned

// What Enter does: nothing while a character is being composed, a new line together with Shift.
export const sends = (event) => event.key === "Enter" && !event.shiftKey && !event.isComposing;

export function stateWords(writing, turn) {
  if (writing) return turn && turn.note ? `Writing: ${turn.note}` : "Reading the prompt.";
  return turn ? `Done: ${turn.note}.` : "Ready.";
}

function makeTurn(log, turn, chat) {
  const box = node(log, "div", { class: chat ? "turn" : "turn goes-on" });
  const first = node(box, "p", { class: "said" });
  if (chat) node(first, "span", { class: "who" }, "you: ");
  node(first, "span", { class: "prompt" }, turn.prompt);
  const second = chat ? node(box, "p", { class: "said" }) : first;
  if (chat) node(second, "span", { class: "who" }, "model: ");
  const answer = node(second, "span", { class: "answer" }, turn.answer),
    note = node(box, "p", { class: "l3-note" }, turn.note);
  return { answer, note };
}

function makeForm(view, chat, onSend, onStop) {
  const form = node(view.root, "div", { class: "ask" }),
    box = node(form, "label");
  node(
    box,
    "span",
    { class: "l3-label" },
    chat ? "your message" : "text for the model to go on with",
  );
  const text = keepKeys(
    node(box, "textarea", { rows: 2, placeholder: "Enter sends, Shift+Enter makes a new line" }),
  );
  const send = button(form, "Send", onSend),
    stop = button(form, "Stop", onStop);
  text.addEventListener("keydown", (event) => {
    event.stopPropagation(); // Lab would run the cell on Shift+Enter
    if (sends(event)) {
      event.preventDefault();
      onSend();
    }
  });
  return { text, send, stop };
}

// The slider of the temperature.
function makeHeat(model, parent) {
  const box = node(parent, "label", { class: "l3-control" });
  node(box, "span", { class: "l3-label" }, "temperature");
  const range = { type: "range", min: 0, max: 2, step: 0.1, "data-trait": "temperature" };
  const input = keepKeys(node(box, "input", range));
  const out = node(box, "output", { class: "l3-value" });
  const show = () => {
    input.value = model.get("temperature");
    out.textContent = model.get("temperature").toFixed(1);
    input.setAttribute("aria-valuetext", out.textContent);
  };
  input.addEventListener("input", () => {
    model.set("temperature", Number(input.value));
    model.save_changes();
  });
  model.on("change:temperature", show);
  show();
  return { stop: () => model.off("change:temperature", show) };
}

const BUSY = "Still writing: wait, or stop it first.";

const NO_KERNEL = "No kernel is here: open the notebook to talk to the model.";
const SILENT = "No answer from the kernel yet: a cell may be running, or no kernel is there.";

class Panel {
  constructor(model, el) {
    this.model = model;
    this.chat = model.get("chat");
    const title = this.chat ? "Talk to the model" : "The model goes on with your text";
    this.view = frame(el, { title, name: "chat" });
    const { root, controls } = this.view;
    const log = { class: "log", role: "log", tabindex: 0, "aria-live": "polite" };
    this.log = keepKeys(node(root, "div", { ...log, "aria-label": "what was written" }));
    const stop = () => {
      model.send({ kind: "stop" });
      this.form.text.focus();
    };
    this.form = makeForm(this.view, this.chat, () => this.ask(), stop);
    this.heat = makeHeat(model, controls);
    root.append(controls);
    this.state = node(root, "p", { class: "l3-note state" });
    // stays until the next text is taken, or is no longer true: what happens meanwhile stands above
    this.trouble = node(root, "p", { class: "l3-bad trouble" });
    this.last = null; // the turn that is being written
    this.draw();
  }

  tell(words) {
    this.trouble.textContent = words;
    this.view.say(words);
  }

  ask() {
    const { model, form } = this;
    const text = form.text.value;
    if (model.get("writing")) this.tell(BUSY);
    else if (!text.trim()) this.tell("Write something first.");
    else if (typeof model.send !== "function") this.tell(NO_KERNEL);
    else {
      model.send({ kind: "send", text });
      this.trouble.textContent = "";
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.tell(SILENT), PATIENCE);
      form.text.focus();
    }
  }

  buttons() {
    const writing = this.model.get("writing");
    this.form.send.disabled = writing;
    this.form.stop.disabled = !writing;
    // read out when it is whole, not letter by letter
    this.log.setAttribute("aria-busy", String(writing));
    this.view.root.dataset.writing = String(writing);
    if (!writing && this.trouble.textContent === BUSY) this.trouble.textContent = "";
    this.state.textContent = stateWords(writing, this.model.get("turns").at(-1));
  }

  draw() {
    const turns = this.model.get("turns");
    const { root } = this.view;
    const more = turns.length > Number(root.dataset.turns || 0);
    this.log.replaceChildren();
    this.last = null;
    for (const turn of turns) this.last = makeTurn(this.log, turn, this.chat);
    if (!turns.length) node(this.log, "p", { class: "empty" }, "Nothing is written yet.");
    this.log.scrollTop = this.log.scrollHeight;
    root.dataset.turns = turns.length;
    clearTimeout(this.timer);
    if (more) this.trouble.textContent = "";
    if (more && this.form.text.value === turns.at(-1).prompt) this.form.text.value = "";
    this.buttons();
    drawn(root);
  }

  message(content) {
    const { root } = this.view;
    clearTimeout(this.timer);
    if (content.kind === "refused") this.tell(`Not sent: ${content.why}.`);
    if (content.kind !== "text" || !this.last) return;
    this.last.answer.textContent = content.text;
    this.last.note.textContent = content.note;
    this.log.scrollTop = this.log.scrollHeight;
    root.dataset.pieces = Number(root.dataset.pieces || 0) + 1;
    this.state.textContent = stateWords(true, content);
    drawn(root);
  }

  stop() {
    clearTimeout(this.timer);
    this.heat.stop();
    this.view.stop();
  }
}

function render({ model, el }) {
  const panel = new Panel(model, el);
  const heard = {
    "change:turns": () => panel.draw(),
    "change:writing": () => panel.buttons(),
    "msg:custom": (content) => panel.message(content),
  };
  for (const [event, listener] of Object.entries(heard)) model.on(event, listener);
  return () => {
    for (const [event, listener] of Object.entries(heard)) model.off(event, listener);
    panel.stop();
  };
}

export default { render };
