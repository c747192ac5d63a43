// Controls of a view. Each shows one of its options [value, words] and tells when it is moved.

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function makeControl(parent, spec, onMove) {
  const make = {
    slider: makeSlider,
    choice: makeChoice,
    toggle: makeToggle,
    text: makeText,
    pick: spec.play && makePick,
  }[spec.kind];
  return make ? make(parent, spec, onMove) : { show: () => {}, stop: () => {} };
}

function labelled(parent, spec, extra = "") {
  const box = node(parent, "label", { class: `l3-control ${extra}` });
  node(box, "span", { class: "l3-label" }, spec.label);
  return box;
}

function makeSlider(parent, spec, onMove) {
  const box = labelled(parent, spec);
  const input = keepKeys(
    node(box, "input", { type: "range", min: 0, step: 1, "data-trait": spec.name }),
  );
  const out = node(box, "output", { class: "l3-value" });
  let options = [];
  const words = () => {
    const [, text] = options[Number(input.value)] ?? [null, ""];
    out.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  const go = (place) => {
    input.value = place;
    words();
    onMove(options[place][0]);
  };
  input.addEventListener("input", () => go(Number(input.value)));
  const player = spec.play
    ? makePlayer(box, spec, () => [Number(input.value), options.length], go)
    : null;
  return {
    show: (value, list) => {
      options = list;
      box.hidden = !list.length;
      input.max = Math.max(0, list.length - 1);
      const widest = Math.max(0, ...list.map(([, text]) => text.length));
      out.style.minWidth = `${Math.min(widest, 34)}ch`;
      const place = list.findIndex(([stop]) => same(stop, value));
      if (place >= 0) input.value = place;
      words();
    },
    stop: () => player?.stop(),
    drawn: () => player?.drawn(),
  };
}

// Runs through the stops: the next one only when the last is on the page.
function makePlayer(box, spec, where, go) {
  let timer = null,
    due = 0,
    running = false;
  const press = button(box, "▶", () => (running ? halt() : start()));
  const show = () => {
    press.textContent = running ? "⏸" : "▶";
    press.setAttribute("aria-label", `${running ? "pause" : "play"} ${spec.label}`);
  };
  const halt = () => {
    running = false;
    clearTimeout(timer);
    show();
  };
  const step = () => {
    const [place, length] = where();
    if (place + 1 >= length) {
      halt();
      return;
    }
    due = performance.now() + spec.play;
    go(place + 1);
  };
  const start = () => {
    const [place, length] = where();
    running = true;
    show();
    if (place + 1 >= length) go(0);
    else step();
  };
  show();
  return {
    stop: halt,
    drawn: () => {
      if (!running) return;
      clearTimeout(timer);
      timer = setTimeout(step, Math.max(0, due - performance.now()));
    },
  };
}

// What is chosen in the picture has a button here if one can run through it.
function makePick(parent, spec, onMove) {
  const box = node(parent, "span", { class: "l3-control" });
  node(box, "span", { class: "l3-label" }, spec.label);
  let options = [],
    place = 0;
  const go = (to) => onMove(options[(place = to)][0]);
  const player = makePlayer(box, spec, () => [place, options.length], go);
  return {
    show: (value, list) => {
      options = list;
      box.hidden = !list.length;
      place = list.findIndex(([stop]) => same(stop, value));
    },
    stop: () => player.stop(),
    drawn: () => player.drawn(),
  };
}

function makeChoice(parent, spec, onMove) {
  const box = labelled(parent, spec);
  const select = keepKeys(node(box, "select", { "data-trait": spec.name }));
  let options = [];
  select.addEventListener("change", () => onMove(options[select.selectedIndex][0]));
  return {
    stop: () => {},
    show: (value, list) => {
      box.hidden = !list.length;
      if (!same(list, options)) {
        options = list;
        select.replaceChildren();
        for (const [, text] of list) node(select, "option", {}, text);
      }
      select.selectedIndex = list.findIndex(([stop]) => same(stop, value));
    },
  };
}

function makeToggle(parent, spec, onMove) {
  const box = node(parent, "label", { class: "l3-control l3-toggle" });
  const input = keepKeys(node(box, "input", { type: "checkbox", "data-trait": spec.name }));
  node(box, "span", { class: "l3-label" }, spec.label);
  input.addEventListener("change", () => onMove(input.checked));
  return {
    stop: () => {},
    show: (value) => {
      input.checked = Boolean(value);
    },
  };
}

function makeText(parent, spec, onMove) {
  const box = labelled(parent, spec, "l3-wide");
  const input = keepKeys(
    node(box, "input", {
      type: "text",
      maxlength: spec.most,
      "data-trait": spec.name,
      spellcheck: "false",
    }),
  );
  // Lab would run the cell on Shift+Enter
  input.addEventListener("keydown", (event) => event.stopPropagation());
  input.addEventListener("input", () => onMove(input.value));
  return {
    stop: () => {},
    show: (value) => {
      if (document.activeElement !== input) input.value = value;
    },
  };
}
