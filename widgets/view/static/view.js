// The live form of every view: asks for frames, keeps them, shows them. What a view is stands in
// Python; this script knows none.

const BIG = "l3-big-type";
const NARROW = 600; // pixels of a page below which pictures are laid out for a telephone
const PAUSE = 120; // milliseconds of rest before frames are fetched ahead
const BUSY = "The kernel is busy: the picture follows when it answers.";
const NOT_KEPT = "This state was not recorded: it needs a kernel.";

class LiveView {
  constructor(model, el) {
    this.model = model;
    this.spec = model.get("_spec");
    this.recording = model.recording ?? null;
    this.drawing = this.spec.controls.filter((control) => control.draws);
    this.values = structuredClone(model.get("_choices"));
    this.stops = {}; // of controls whose stops depend on others
    this.store = makeStore();
    this.asked = new Map(); // number: the key of a frame, and whether it is fetched ahead
    this.shownNumber = this.latest = 0;
    this.version = -1; // of the data behind the view
    this.shownKey = "";
    this.build(el);
    this.line = this.recording ? null : makeLine(model, this.answers());
  }

  build(el) {
    const { spec } = this;
    this.parts = frame(el, { title: spec.name, name: "view" });
    const { root } = this.parts;
    root.dataset.view = spec.name;
    this.controls = spec.controls.map((control) => {
      const made = makeControl(this.parts.controls, control, (it) => this.move(control.name, it));
      return [control, made];
    });
    this.makeSizeButton();
    this.picture = new LivePicture(root, `${uniqueId("p")}-`, {
      onChoose: (name, value) => this.move(name, value),
      isChosen: (name, value) => same(this.values[name], value),
    });
    this.note = node(root, "p", { class: "l3-note" });
    this.trouble = node(root, "p", { class: "l3-bad", hidden: true });
    const folds = node(root, "div", { class: "l3-folds" });
    this.more = node(folds, "details", { class: "l3-more" });
    keepKeys(node(this.more, "summary", {}, "More about this picture"));
    this.list = node(this.more, "ul");
    this.code = codeTwin(folds);
    this.table = tableTwin(folds, spec.name);
  }

  makeSizeButton() {
    const { root } = this.parts;
    const press = () => enlarge(!root.classList.contains("l3-big"));
    this.size = button(this.parts.controls, "Aa", press);
    this.size.classList.add("l3-size");
    this.size.title = "larger type, for a projector";
    this.size.setAttribute("aria-label", "larger type");
  }

  // What comes back from the kernel.
  answers() {
    return {
      onFrame: (number, made) => {
        const wish = this.asked.get(number);
        this.asked.delete(number);
        if (this.line.idle()) this.rest();
        if (made.version < this.version || !wish) return;
        this.store.put(wish.key, made);
        if (!wish.ahead && number >= this.shownNumber) {
          this.shownNumber = number;
          this.show(made, number === this.latest);
        }
        this.lookAhead();
      },
      onError: (number, words) => {
        this.asked.delete(number);
        this.complain(`This state cannot be drawn: ${words}`);
      },
      onSilence: () => {
        this.parts.root.classList.add("l3-waits");
        this.complain(BUSY);
      },
    };
  }

  keyOf(values, width = this.width) {
    return JSON.stringify([width, ...this.drawing.map(({ name }) => values[name])]);
  }

  optionsOf(name) {
    return this.stops[name] ?? this.spec.controls.find((control) => control.name === name).stops;
  }

  keep(values) {
    this.values = values;
    this.model.set("_choices", values);
    this.model.save_changes();
  }

  // A control was moved, or something chosen in the picture.
  move(name, value) {
    this.keep({ ...this.values, [name]: value });
    if (this.drawing.some((control) => control.name === name)) this.want();
    else this.follow();
  }

  // The picture stays; what is chosen in it, and the controls, do not.
  follow() {
    this.picture.dress();
    this.syncControls();
    drawn(this.parts.root);
  }

  want() {
    const key = this.keyOf(this.values);
    const kept = this.store.get(key) ?? this.recording?.find(this.values);
    if (kept) {
      this.shownNumber = this.latest = Math.max(this.shownNumber, this.latest);
      this.show(kept, true);
      this.lookAhead();
    } else if (this.line) {
      this.latest = this.line.ask(this.width, this.values);
      this.asked.set(this.latest, { key, ahead: false });
    } else this.complain(NOT_KEPT);
  }

  // While nothing else is to do, the pictures one move away are fetched.
  lookAhead() {
    clearTimeout(this.early);
    if (!this.line) return;
    this.early = setTimeout(() => {
      const waits = this.parts.root.classList.contains("l3-waits");
      if (!this.line.idle() || document.hidden || waits) return;
      const next = this.neighbours().find((values) => !this.store.has(this.keyOf(values)));
      if (!next) return;
      this.asked.set(this.line.ask(this.width, next), { key: this.keyOf(next), ahead: true });
    }, PAUSE);
  }

  neighbours() {
    const found = [];
    for (const { name, kind } of this.drawing) {
      const options = this.optionsOf(name);
      const place = options.findIndex(([stop]) => same(stop, this.values[name]));
      const others = options.map((_, i) => i).filter((i) => i !== place);
      const near = kind === "slider" ? [place + 1, place - 1] : others.slice(0, 8);
      for (const i of near) {
        if (options[i]) found.push({ ...this.values, [name]: options[i][0] });
      }
    }
    return found;
  }

  syncControls() {
    for (const [{ name }, made] of this.controls)
      made.show(this.values[name], this.optionsOf(name));
  }

  // isLatest: nothing newer is under way, so that the controls follow what the picture allows
  show(made, isLatest) {
    const { root } = this.parts;
    this.version = made.version;
    this.stops = made.stops;
    if (isLatest) {
      const fitted = { ...this.values };
      for (const { name } of this.drawing) fitted[name] = made.values[name];
      if (!same(fitted, this.values)) this.keep(fitted);
      root.classList.remove("l3-waits");
      this.trouble.hidden = true;
    }
    this.shownKey = this.keyOf(made.values);
    this.syncControls();
    this.parts.setTitle(made.title);
    this.picture.paint(made);
    this.tell(made);
    for (const [name, value] of Object.entries(made.facts)) root.dataset[name] = value;
    drawn(root);
    for (const [, control] of this.controls) control.drawn?.();
  }

  tell(made) {
    const [first = "", ...others] = made.notes;
    this.note.textContent = first;
    this.note.hidden = !first;
    this.more.hidden = !others.length;
    this.list.replaceChildren();
    for (const words of others) node(this.list, "li", {}, words);
    this.code(made.code);
    this.table(made.table);
    this.parts.say(made.say);
  }

  // Nothing is waited for any more, also if it was only a picture fetched ahead that came late.
  rest() {
    this.parts.root.classList.remove("l3-waits");
    if (this.trouble.textContent === BUSY) this.trouble.hidden = true;
  }

  complain(words) {
    this.trouble.textContent = words;
    this.trouble.hidden = false;
    this.parts.say(words);
  }

  // Python moved a control, or the data behind the view changed.
  pushed() {
    const made = this.model.get("_frame");
    if (!made?.pieces) return;
    if (made.version !== this.version) this.store.clear();
    this.values = structuredClone(this.model.get("_choices"));
    this.store.put(this.keyOf(made.values, made.size[0]), made);
    this.shownNumber = this.latest = Math.max(this.shownNumber, this.latest);
    if (made.size[0] === this.width) this.show(made, true);
    else this.want();
  }

  // Another copy of this view on the page was moved.
  copied() {
    const values = this.model.get("_choices");
    if (same(values, this.values)) return;
    this.values = structuredClone(values);
    if (this.keyOf(this.values) === this.shownKey) this.follow();
    else this.want();
  }

  resized(big) {
    this.parts.root.classList.toggle("l3-big", big);
    this.size.setAttribute("aria-pressed", String(big));
    this.fit();
  }

  // Ask for the layout that suits the room.
  fit() {
    const { clientWidth: room, classList } = this.parts.root;
    const [page, big, narrow] = this.spec.widths;
    let width = classList.contains("l3-big") ? big : page;
    if (room && room < NARROW) width = narrow;
    if (this.recording) width = this.model.get("_frame").size[0];
    if (width === this.width) return;
    this.width = width;
    this.want();
  }

  start() {
    this.width = this.model.get("_frame")?.size?.[0] ?? this.spec.widths[0];
    this.pushed();
    if (!this.shownKey) this.want(); // in a box of widgets no picture has come with the view
    const watch = new ResizeObserver(() => this.fit());
    const onSize = (event) => this.resized(event.detail);
    const pushed = () => this.pushed();
    const copied = () => this.copied();
    watch.observe(this.parts.root);
    document.addEventListener(BIG, onSize);
    if (wantsBig()) this.resized(true);
    this.model.on("change:_frame", pushed);
    this.model.on("change:_choices", copied);
    return () => {
      watch.disconnect();
      clearTimeout(this.early);
      document.removeEventListener(BIG, onSize);
      this.model.off("change:_frame", pushed);
      this.model.off("change:_choices", copied);
      this.line?.stop();
      for (const [, control] of this.controls) control.stop();
      this.parts.stop();
    };
  }
}

// The picture's numbers as a table, folded away; `fill(rows)` replaces its content.
function tableTwin(parent, caption) {
  const details = node(parent, "details", { class: "l3-table" });
  keepKeys(node(details, "summary", {}, "The same as a table"));
  const scroll = node(details, "div", {
    class: "l3-scroll",
    tabindex: 0,
    role: "region",
    "aria-label": caption,
  });
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

// The library's source that is at work in the picture, folded away.
function codeTwin(parent) {
  const details = node(parent, "details", { class: "l3-code", hidden: true });
  keepKeys(node(details, "summary", {}, "The code that runs here, from the library"));
  const place = node(details, "p", { class: "l3-note" });
  const lines = keepKeys(node(details, "pre", { tabindex: 0, "aria-label": "source code" }));
  let last = null;
  return (code) => {
    details.hidden = !code;
    if (!code || same(code, last)) return;
    last = code;
    const [where, text, marked] = code;
    place.textContent = where;
    lines.replaceChildren();
    text.split("\n").forEach((line, i) => {
      const here = marked.includes(i);
      node(lines, here ? "mark" : "span", {}, `${here ? "▸ " : "  "}${line}\n`);
    });
  };
}

// Larger type is for all views of a page, and for the next page too where a browser remembers.
function enlarge(on) {
  try {
    localStorage.setItem(BIG, on ? "1" : "0");
  } catch {} // a browser may refuse to keep anything
  document.dispatchEvent(new CustomEvent(BIG, { detail: on }));
}

function wantsBig() {
  try {
    return localStorage.getItem(BIG) === "1";
  } catch {
    return false;
  }
}

function render({ model, el }) {
  return new LiveView(model, el).start();
}

// A page without a kernel: a recording on it becomes live.
export async function revive(holder) {
  const packed = holder.querySelector("script[type='application/octet-stream']").textContent;
  const bytes = Uint8Array.from(atob(packed.trim()), (sign) => sign.charCodeAt(0));
  const data = await unzipped(bytes);
  const recording = makeRecording(data);
  const state = { _spec: data.spec, _choices: data.start, _frame: recording.find(data.start) };
  const model = {
    recording,
    get: (name) => state[name],
    set: (name, value) => {
      state[name] = value;
    },
    save_changes() {},
    on() {},
    off() {},
  };
  const place = holder.querySelector(".l3-place");
  place.replaceChildren();
  render({ model, el: place });
}

export default { render };
