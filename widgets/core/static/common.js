// Shared by all widgets: elements that JupyterLab's shortcuts leave alone, a polite voice for
// screen readers, and a clock for tests. Text always goes in as text, never as HTML.

let nextId = 0;
const uniqueId = (stem) => `l3-${stem}-${Date.now().toString(36)}-${nextId++}`;

function node(parent, tag, attributes = {}, text = null) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false)
      made.setAttribute(name, value === true ? "" : value);
  }
  if (text !== null) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

// JupyterLab takes arrow keys away from focused controls unless the control itself says no.
function keepKeys(control) {
  control.setAttribute("data-lm-suppress-shortcuts", "true");
  return control;
}

// Frame of a widget: a root element with theme classes, a heading, and a voice for changes.
function frame(el, { title, name }) {
  const root = node(el, "section", { class: `l3 l3-${name}`, "aria-label": title });
  const heading = node(root, "h4", { class: "l3-title" }, title);
  const controls = node(root, "div", { class: "l3-controls" });
  const voice = node(root, "div", { class: "l3-voice", role: "status", "aria-live": "polite" });
  let timer = null;
  const say = (text) => {
    clearTimeout(timer); // only the last of a burst of moves is read out
    timer = setTimeout(() => {
      voice.textContent = text;
    }, 350);
  };
  return {
    root,
    heading,
    controls,
    say,
    setTitle: (text) => {
      heading.textContent = text;
      root.setAttribute("aria-label", text);
    },
    stop: () => clearTimeout(timer),
  };
}

// Marks the moment a move has been drawn, so that a test can measure from key press to picture.
function drawn(root) {
  requestAnimationFrame(() => {
    root.dataset.drawn = String(Number(root.dataset.drawn || 0) + 1);
    root.dispatchEvent(new CustomEvent("l3-drawn", { bubbles: true }));
  });
}

function button(parent, label, onPress) {
  const made = keepKeys(node(parent, "button", { type: "button", class: "l3-button" }, label));
  made.addEventListener("click", onPress);
  return made;
}
