// The picture: pieces of SVG that keep their identity from frame to frame, and what can be done
// with them: tips, choosing, arrow keys.

const OWN = new Set(["role", "tabindex", "aria-selected", "aria-label", "data-lm-suppress-shortcuts"]);
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function parsed(pieces, stem) {
  const text = pieces.join("").replaceAll("ID~", stem);
  const page = new DOMParser().parseFromString(`<svg xmlns="${SVG_NS}">${text}</svg>`, "image/svg+xml");
  return [...page.documentElement.childNodes].map((made) => document.importNode(made, true));
}

// Give an element the attributes, words and parts of a new one, so that style sheets move it there.
function become(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !OWN.has(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const alike = old.children.length === fresh.children.length
    && [...old.children].every((part, i) => part.tagName === fresh.children[i].tagName);
  if (!alike) { old.replaceChildren(...fresh.childNodes); return; }
  if (!old.children.length) { if (old.textContent !== fresh.textContent) old.textContent = fresh.textContent; return; }
  const parts = [...fresh.children]; // a live list would shrink
  [...old.children].forEach((part, i) => become(part, parts[i]));
}

function makePicture(parent, stem, { onChoose, isChosen }) {
  const box = node(parent, "div", { class: "l3-stage" });
  const plot = svg(box, "svg", { class: "l3-picture", role: "group" });
  const layer = svg(plot, "g");
  const tip = node(box, "div", { class: "l3-tip", hidden: true });
  let shown = new Map(), keyed = new Map(), current = null;

  const spots = () => [...layer.querySelectorAll("[data-put], [data-tip]")];
  const mayChoose = (spot) => (spot.dataset.put ? JSON.parse(spot.dataset.put) : null);

  function paint(frame) {
    const [width, height] = frame.size;
    plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    plot.setAttribute("aria-label", frame.say);
    const news = frame.pieces.filter((piece) => !shown.has(piece));
    const made = parsed(news, stem), place = new Map(news.map((piece, i) => [piece, made[i]]));
    const next = new Map(), nextKeyed = new Map(), order = [];
    for (const piece of frame.pieces) {
      let element = shown.get(piece) ?? place.get(piece);
      if (next.has(piece)) element = element.cloneNode(true); // the same piece twice
      const key = element.dataset.key, old = key && keyed.get(key);
      if (old && old !== element && old.tagName === element.tagName && !nextKeyed.has(key)) { become(old, element); element = old; }
      else if (key && !old && shown.size) element.classList.add("l3-enters");
      next.set(piece, element);
      if (key) nextKeyed.set(key, element);
      order.push(element);
    }
    const stay = new Set(order);
    for (const element of [...layer.children]) if (!stay.has(element)) element.remove();
    order.forEach((element, i) => { if (layer.children[i] !== element) layer.insertBefore(element, layer.children[i] ?? null); });
    shown = next;
    keyed = nextKeyed;
    dress();
  }

  function dress() {
    const all = spots(), focused = all.includes(document.activeElement) ? document.activeElement : null;
    const selected = all.find((spot) => chosenNow(spot));
    current = focused ?? selected ?? (all.includes(current) ? current : all[0]) ?? null;
    plot.setAttribute("role", all.some((spot) => spot.dataset.put) ? "listbox" : "group");
    for (const spot of all) {
      spot.setAttribute("tabindex", spot === current ? 0 : -1);
      spot.setAttribute("role", spot.dataset.put ? "option" : "img");
      if (spot.dataset.put) spot.setAttribute("aria-selected", chosenNow(spot));
      if (!spot.hasAttribute("aria-label") || spot.l3said) { spot.l3said = true; spot.setAttribute("aria-label", spot.dataset.tip ?? ""); }
      keepKeys(spot); // Lab looks at the focused element itself
    }
    if (focused) showTip(focused); else if (!tip.hidden && !tip.l3spot?.isConnected) hideTip();
  }

  const chosenNow = (spot) => { const put = mayChoose(spot); return Boolean(put && isChosen(...put)); };

  function showTip(spot) {
    if (!spot?.dataset.tip) { hideTip(); return; }
    tip.textContent = spot.dataset.tip;
    tip.l3spot = spot;
    tip.hidden = false;
    const at = spot.getBoundingClientRect(), around = box.getBoundingClientRect();
    const left = at.left + at.width / 2 - around.left - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(2, Math.min(left, around.width - tip.offsetWidth - 2))}px`;
    const above = at.top - around.top - tip.offsetHeight - 8;
    tip.style.top = `${above >= 0 ? above : at.bottom - around.top + 8}px`;
  }
  const hideTip = () => { tip.hidden = true; };

  const spotOf = (event) => event.target.closest?.("[data-put], [data-tip]");
  function choose(spot) {
    const put = mayChoose(spot);
    if (put) onChoose(...put);
  }

  function nearest(from, [dx, dy]) {
    const middle = (spot) => { const r = spot.getBoundingClientRect(); return [r.left + r.width / 2, r.top + r.height / 2]; };
    const [x, y] = middle(from);
    let best = null, least = Infinity;
    for (const spot of spots()) {
      const [a, b] = middle(spot), along = (a - x) * dx + (b - y) * dy, aside = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (spot === from || along < 1) continue;
      const far = along + 2.5 * aside;
      if (far < least) { least = far; best = spot; }
    }
    return best;
  }

  function keys(event) {
    const spot = spotOf(event);
    if (!spot) return;
    const all = spots(), direction = DIRECTIONS[event.key];
    const next = direction ? nearest(spot, direction) : event.key === "Home" ? all[0] : event.key === "End" ? all.at(-1) : null;
    if (event.key === "Escape") hideTip();
    else if (event.key === "Enter" || event.key === " ") choose(spot);
    else if (!direction && !next) return;
    event.preventDefault();
    event.stopPropagation();
    if (!next) return;
    next.focus({ preventScroll: true });
    choose(next);
  }

  layer.addEventListener("pointerover", (event) => showTip(spotOf(event)));
  layer.addEventListener("pointerleave", () => { if (!layer.contains(document.activeElement)) hideTip(); });
  layer.addEventListener("focusin", (event) => {
    for (const spot of spots()) spot.setAttribute("tabindex", spot === event.target ? 0 : -1);
    current = event.target;
    showTip(event.target);
  });
  layer.addEventListener("focusout", hideTip);
  layer.addEventListener("click", (event) => { const spot = spotOf(event); if (spot) { spot.focus({ preventScroll: true }); choose(spot); } });
  layer.addEventListener("keydown", keys);
  return { box, plot, paint, dress };
}
