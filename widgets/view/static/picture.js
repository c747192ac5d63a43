// The picture: pieces of SVG that keep their identity from frame to frame, and what can be done
// with them: tips, choosing, arrow keys. A piece with a tip or something to choose is a spot.

const SVG_NS = "http://www.w3.org/2000/svg";
const OWN = ["role", "tabindex", "aria-selected", "aria-label", "data-lm-suppress-shortcuts"];
const SPOTS = "[data-put], [data-tip]";
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const ASIDE = 2.5; // how much farther a spot counts for each pixel off the direction of the arrow

function svg(parent, tag, attributes = {}, text = null) {
  const made = document.createElementNS(SVG_NS, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return parent.appendChild(made);
}

function parsed(pieces, stem) {
  const text = pieces.join("").replaceAll("ID~", stem);
  const page = `<svg xmlns="${SVG_NS}">${text}</svg>`;
  const made = new DOMParser().parseFromString(page, "image/svg+xml");
  return [...made.documentElement.childNodes].map((piece) => document.importNode(piece, true));
}

// Give an element the attributes, words and parts of a new one; a style sheet moves it there.
function become(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !OWN.includes(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const parts = [...fresh.children]; // copies: live lists would shrink
  const mine = [...old.children];
  const alike =
    mine.length === parts.length && mine.every((it, i) => it.tagName === parts[i].tagName);
  if (!alike) old.replaceChildren(...fresh.childNodes);
  else if (mine.length) mine.forEach((part, i) => become(part, parts[i]));
  else if (old.textContent !== fresh.textContent) old.textContent = fresh.textContent;
}

const middleOf = (spot) => {
  const at = spot.getBoundingClientRect();
  return [at.left + at.width / 2, at.top + at.height / 2];
};

class LivePicture {
  constructor(parent, stem, { onChoose, isChosen }) {
    Object.assign(this, { stem, onChoose, isChosen });
    this.box = node(parent, "div", { class: "l3-stage" });
    this.plot = svg(this.box, "svg", { class: "l3-picture", role: "group" });
    this.layer = svg(this.plot, "g");
    this.tip = node(this.box, "div", { class: "l3-tip", hidden: true });
    this.shown = new Map(); // piece: its element
    this.keyed = new Map(); // key: its element
    this.current = null; // the spot that Tab leads to
    this.listen();
  }

  paint(frame) {
    const [width, height] = frame.size;
    this.plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.plot.setAttribute("aria-label", frame.say);
    const fresh = frame.pieces.filter((piece) => !this.shown.has(piece));
    const made = parsed(fresh, this.stem);
    const news = new Map(fresh.map((piece, i) => [piece, made[i]]));
    const shown = new Map();
    const keyed = new Map();
    const order = frame.pieces.map((piece) => {
      let element = this.shown.get(piece) ?? news.get(piece);
      if (shown.has(piece)) element = element.cloneNode(true); // the same piece twice
      element = this.keptByKey(element, keyed);
      shown.set(piece, element);
      return element;
    });
    this.arrange(order);
    this.shown = shown;
    this.keyed = keyed;
    this.dress();
  }

  // The element of a key stays, and becomes what the new one is.
  keptByKey(element, keyed) {
    const { key } = element.dataset;
    if (!key) return element;
    const old = this.keyed.get(key);
    const stays = old && old !== element && old.tagName === element.tagName && !keyed.has(key);
    if (stays) become(old, element);
    else if (!old && this.shown.size) element.classList.add("l3-enters");
    keyed.set(key, stays ? old : element);
    return keyed.get(key);
  }

  // Moving an element within the page ends its transition, so only what is out of place is moved.
  arrange(order) {
    const { layer } = this;
    const stay = new Set(order);
    for (const element of [...layer.children]) if (!stay.has(element)) element.remove();
    order.forEach((element, i) => {
      const there = layer.children[i] ?? null;
      if (there !== element) layer.insertBefore(element, there);
    });
  }

  spots() {
    return [...this.layer.querySelectorAll(SPOTS)];
  }

  chosen(spot) {
    return Boolean(spot.dataset.put) && this.isChosen(...JSON.parse(spot.dataset.put));
  }

  // Roles, names and the one spot for Tab. Lab looks for its key opt-out at the focused element.
  dress() {
    const all = this.spots();
    const focused = all.find((spot) => spot === document.activeElement);
    const kept = all.includes(this.current) ? this.current : all[0];
    this.current = focused ?? all.find((spot) => this.chosen(spot)) ?? kept ?? null;
    const choices = all.some((spot) => spot.dataset.put);
    this.plot.setAttribute("role", choices ? "listbox" : "group");
    for (const spot of all) {
      keepKeys(spot);
      spot.setAttribute("tabindex", spot === this.current ? 0 : -1);
      spot.setAttribute("role", spot.dataset.put ? "option" : "img");
      if (spot.dataset.put) spot.setAttribute("aria-selected", this.chosen(spot));
      if (spot.hasAttribute("aria-label") && !spot.l3named) continue; // Python gave it a name
      spot.l3named = true;
      spot.setAttribute("aria-label", spot.dataset.tip ?? "");
    }
    if (focused) this.showTip(focused);
    else if (!this.tip.hidden && !this.tipped?.isConnected) this.hideTip();
  }

  showTip(spot) {
    const { tip } = this;
    tip.hidden = !spot?.dataset.tip;
    if (tip.hidden) return;
    this.tipped = spot;
    tip.textContent = spot.dataset.tip;
    const at = spot.getBoundingClientRect();
    const around = this.box.getBoundingClientRect();
    const left = at.left + at.width / 2 - around.left - tip.offsetWidth / 2;
    const most = around.width - tip.offsetWidth - 2;
    const above = at.top - around.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(2, Math.min(left, most))}px`;
    tip.style.top = `${above >= 0 ? above : at.bottom - around.top + 8}px`;
  }

  hideTip() {
    this.tip.hidden = true;
  }

  choose(spot) {
    if (spot.dataset.put) this.onChoose(...JSON.parse(spot.dataset.put));
  }

  // The spot next to one in a direction.
  nearest(from, [dx, dy]) {
    const [x, y] = middleOf(from);
    const away = (spot) => {
      const [a, b] = middleOf(spot);
      const along = (a - x) * dx + (b - y) * dy;
      const aside = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      return along < 1 ? Infinity : along + ASIDE * aside;
    };
    const others = this.spots().filter((spot) => spot !== from);
    const far = others.map(away);
    const least = Math.min(...far);
    return Number.isFinite(least) ? others[far.indexOf(least)] : null;
  }

  keys(event) {
    const spot = event.target.closest?.(SPOTS);
    if (!spot) return;
    const all = this.spots();
    const direction = DIRECTIONS[event.key];
    const ends = { Home: all[0], End: all.at(-1) };
    const next = direction ? this.nearest(spot, direction) : ends[event.key];
    if (event.key === "Escape") this.hideTip();
    else if (event.key === "Enter" || event.key === " ") this.choose(spot);
    else if (!direction && !next) return;
    event.preventDefault();
    event.stopPropagation();
    if (!next) return;
    next.focus({ preventScroll: true });
    this.choose(next);
  }

  listen() {
    const { layer } = this;
    const spotOf = (event) => event.target.closest?.(SPOTS);
    layer.addEventListener("pointerover", (event) => this.showTip(spotOf(event)));
    layer.addEventListener("pointerleave", () => {
      if (!layer.contains(document.activeElement)) this.hideTip();
    });
    layer.addEventListener("focusin", (event) => {
      this.current = event.target;
      for (const spot of this.spots())
        spot.setAttribute("tabindex", spot === this.current ? 0 : -1);
      this.showTip(this.current);
    });
    layer.addEventListener("focusout", () => this.hideTip());
    layer.addEventListener("click", (event) => {
      const spot = spotOf(event);
      if (!spot) return;
      spot.focus({ preventScroll: true });
      this.choose(spot);
    });
    layer.addEventListener("keydown", (event) => this.keys(event));
  }
}
