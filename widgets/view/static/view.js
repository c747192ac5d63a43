// The live form of every view: asks for frames, keeps them, shows them. What a view is stands in
// Python; this script knows none.

const BIG = "l3-big-type", NARROW = 560;

function remembered() { try { return localStorage.getItem(BIG) === "1"; } catch { return false; } }

function render({ model, el }) {
  const spec = model.get("_spec"), recording = model.recording ?? null;
  const parts = frame(el, { title: spec.name, name: "view" });
  parts.root.dataset.view = spec.name;
  const picture = makePicture(parts.root, `${uniqueId("p")}-`, {
    onChoose: (name, value) => move(name, value),
    isChosen: (name, value) => same(values[name], value),
  });
  const note = node(parts.root, "p", { class: "l3-note" });
  const more = keepKeysOfSummary(node(parts.root, "details", { class: "l3-more" }), "More about this picture");
  const fillMore = node(more, "ul");
  const trouble = node(parts.root, "p", { class: "l3-bad", hidden: true });
  const fillCode = codeTwin(parts.root);
  const table = tableTwin(parts.root, spec.name);
  const drawing = spec.controls.filter((control) => control.draws);
  const store = makeStore();
  let values = structuredClone(model.get("_choices")), width = 0, last = 0, latest = 0, version = -1, shownKey = "", early = null;
  const asked = new Map();

  const keyOf = (wide, these) => JSON.stringify([wide, ...drawing.map(({ name }) => these[name])]);
  const controls = spec.controls.map((control) => [control, makeControl(parts.controls, control, (value) => move(control.name, value))]);
  const size = button(parts.controls, "Aa", () => enlarge(!parts.root.classList.contains("l3-big")));
  size.classList.add("l3-size");
  size.title = "larger type, for a projector";
  size.setAttribute("aria-label", "larger type");

  const line = recording ? null : makeLine(model, {
    onFrame: (number, made) => {
      const wish = asked.get(number);
      asked.delete(number);
      if (made.version < version || !wish) return;
      store.put(wish.key, made);
      if (!wish.ahead && number >= last) { last = number; show(made, number === latest); }
      lookAhead();
    },
    onError: (number, words) => { asked.delete(number); complain(`This state cannot be drawn: ${words}`); },
    onSilence: () => { parts.root.classList.add("l3-waits"); complain("The kernel is busy: the picture follows when it answers."); },
  });

  function move(name, value) {
    const draws = drawing.some((control) => control.name === name);
    values = { ...values, [name]: value };
    model.set("_choices", values);
    model.save_changes();
    if (draws) want(); else { picture.dress(); syncControls(); drawn(parts.root); }
  }

  function want() {
    const key = keyOf(width, values), kept = store.get(key) ?? recording?.find(values);
    if (kept) { last = latest = Math.max(last, latest); show(kept, true); lookAhead(); return; }
    if (!line) { complain("This state was not recorded: it needs a kernel."); return; }
    latest = line.ask(width, values);
    asked.set(latest, { key, ahead: false });
  }

  // While nothing else is to do, the pictures one move away are fetched.
  function lookAhead() {
    clearTimeout(early);
    if (!line) return;
    early = setTimeout(() => {
      if (!line.idle() || document.hidden || parts.root.classList.contains("l3-waits")) return;
      const next = neighbours().find((these) => !store.has(keyOf(width, these)));
      if (next) asked.set(line.ask(width, next), { key: keyOf(width, next), ahead: true });
    }, 120);
  }

  function neighbours() {
    const found = [];
    for (const { name, kind } of drawing) {
      const options = optionsOf(name), place = options.findIndex(([stop]) => same(stop, values[name]));
      const near = kind === "slider" ? [place + 1, place - 1] : options.map((_, i) => i).filter((i) => i !== place).slice(0, 8);
      for (const i of near) if (options[i]) found.push({ ...values, [name]: options[i][0] });
    }
    return found;
  }

  let stops = {};
  const optionsOf = (name) => stops[name] ?? spec.controls.find((control) => control.name === name).stops;
  const syncControls = () => { for (const [control, made] of controls) made.show(values[control.name], optionsOf(control.name)); };

  function show(made, isLatest) {
    version = made.version;
    stops = made.stops;
    if (isLatest) {
      const fitted = { ...values };
      for (const { name } of drawing) fitted[name] = made.values[name];
      const other = !same(fitted, values);
      values = fitted;
      if (other) { model.set("_choices", values); model.save_changes(); }
      parts.root.classList.remove("l3-waits");
      trouble.hidden = true;
    }
    shownKey = keyOf(width, made.values);
    syncControls();
    parts.setTitle(made.title);
    picture.paint(made);
    note.textContent = made.notes[0] ?? "";
    note.hidden = !made.notes.length;
    more.hidden = made.notes.length < 2;
    fillMore.replaceChildren();
    for (const words of made.notes.slice(1)) node(fillMore, "li", {}, words);
    fillCode(made.code);
    table(made.table);
    for (const [name, value] of Object.entries(made.facts)) parts.root.dataset[name] = value;
    parts.say(made.say);
    drawn(parts.root);
    for (const [, control] of controls) control.drawn?.();
  }

  function complain(words) {
    trouble.textContent = words;
    trouble.hidden = false;
    parts.say(words);
  }

  function pushed() { // Python moved a control, or its data changed
    const made = model.get("_frame");
    if (!made?.pieces) return;
    if (made.version !== version) store.clear();
    values = structuredClone(model.get("_choices"));
    store.put(keyOf(made.size[0], made.values), made);
    latest = last = Math.max(last, latest);
    if (made.size[0] === width || !width) show(made, true); else want();
  }
  const otherCopy = () => {
    if (same(model.get("_choices"), values)) return;
    values = structuredClone(model.get("_choices"));
    if (keyOf(width, values) !== shownKey) want(); else { picture.dress(); syncControls(); }
  };

  function enlarge(on) {
    try { localStorage.setItem(BIG, on ? "1" : "0"); } catch { /* a page may not remember */ }
    document.dispatchEvent(new CustomEvent(BIG, { detail: on }));
  }
  const resized = (on) => {
    parts.root.classList.toggle("l3-big", on);
    size.setAttribute("aria-pressed", String(on));
    fit();
  };
  const onSize = (event) => resized(event.detail);
  function fit() {
    const room = parts.root.clientWidth, [page, big, narrow] = spec.widths;
    const wide = recording ? model.get("_frame").size[0] : room && room < NARROW ? narrow : parts.root.classList.contains("l3-big") ? big : page;
    if (wide === width) return;
    width = wide;
    want();
  }

  width = model.get("_frame")?.size?.[0] ?? spec.widths[0];
  pushed();
  const watch = new ResizeObserver(fit);
  watch.observe(parts.root);
  document.addEventListener(BIG, onSize);
  if (remembered()) resized(true);
  model.on("change:_frame", pushed);
  model.on("change:_choices", otherCopy);
  return () => {
    watch.disconnect();
    clearTimeout(early);
    document.removeEventListener(BIG, onSize);
    model.off("change:_frame", pushed);
    model.off("change:_choices", otherCopy);
    line?.stop();
    for (const [, control] of controls) control.stop();
    parts.stop();
  };
}

function keepKeysOfSummary(details, words) {
  keepKeys(node(details, "summary", {}, words));
  return details;
}

// The library's source that is at work in the picture, folded away.
function codeTwin(parent) {
  const details = keepKeysOfSummary(node(parent, "details", { class: "l3-code", hidden: true }), "The code that runs here, from the library");
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

// A page without a kernel: each recording on it becomes live.
export async function revive(holder) {
  const packed = holder.querySelector("script[type='application/octet-stream']").textContent;
  const bytes = Uint8Array.from(atob(packed.trim()), (sign) => sign.charCodeAt(0));
  const data = await unzipped(bytes), recording = makeRecording(data);
  const state = { _spec: data.spec, _choices: data.start, _frame: recording.find(data.start) };
  const model = { recording, get: (name) => state[name], set: (name, value) => { state[name] = value; }, save_changes() {}, on() {}, off() {} };
  const place = holder.querySelector(".l3-place");
  place.replaceChildren();
  render({ model, el: place });
}

export default { render };
