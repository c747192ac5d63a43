// Mix sliders. Pure functions first (tested in node against Python), drawing last.

const SOURCES = ["general", "maths", "code", "multilingual"];
const BARS = { x: 190, y: 40, width: 540, step: 58 };
const FEW = 1, MANY = 4;

export function epochs(shares, tokens, budget) {
  return Object.fromEntries(SOURCES.map((name) => [name, (shares[name] * budget) / tokens[name]]));
}

export function note(times) {
  if (times < FEW) return `${Math.round(100 * times)}% of it is read`;
  return `read ${times.toFixed(1)} times${times > MANY ? ", much repetition" : ""}`;
}

export function headline(times) {
  const [name, most] = Object.entries(times).reduce((best, one) => (one[1] > best[1] ? one : best));
  return `Most often repeated: ${name}, ${most.toFixed(1)} times`;
}

// A share that would leave less than nothing for general knowledge is cut back.
export function cutBack(percents, moved) {
  const others = Object.entries(percents).filter(([name]) => name !== moved).reduce((sum, [, value]) => sum + value, 0);
  return { ...percents, [moved]: Math.min(percents[moved], 100 - others) };
}

function render({ model, el }) {
  const tokens = model.get("tokens"), budget = model.get("budget"), paper = model.get("paper");
  const view = frame(el, { title: "", name: "mixture" });
  const names = SOURCES.slice(1);
  const sliders = names.map((name) => slider(model, view.controls, name, name, { min: 0, max: 60, text: (v) => `${v} %` }));
  const { plot, describe } = picture(view.root, { width: 1000, height: BARS.y + BARS.step * SOURCES.length });
  svg(plot, "text", { x: 20, y: 20, class: "soft" }, `${thousands(budget)} tokens are drawn; the upright mark is the paper's share`);
  const bars = SOURCES.map((name, place) => {
    const y = BARS.y + BARS.step * place, mark = BARS.x + BARS.width * paper[name];
    const label = svg(plot, "text", { x: BARS.x - 12, y: y + 20, "text-anchor": "end" });
    svg(plot, "rect", { x: BARS.x, y, width: BARS.width, height: 30, class: "whole" });
    const bar = svg(plot, "rect", { x: BARS.x, y, height: 30 });
    svg(plot, "line", { x1: mark, x2: mark, y1: y - 5, y2: y + 35, class: "mark" });
    return { name, label, bar, words: svg(plot, "text", { x: BARS.x + BARS.width + 14, y: y + 20 }) };
  });
  const table = tableTwin(view.root, "Shares and epochs");

  const draw = () => {
    const told = Object.fromEntries(names.map((name) => [name, model.get(name)]));
    const shares = Object.fromEntries(names.map((name) => [name, told[name] / 100]));
    shares.general = (100 - names.reduce((sum, name) => sum + told[name], 0)) / 100;
    const times = epochs(shares, tokens, budget), title = headline(times);
    for (const { name, label, bar, words } of bars) {
      label.textContent = `${name}: ${Math.round(100 * shares[name])}%`;
      bar.setAttribute("width", Math.max(0, BARS.width * shares[name]));
      bar.setAttribute("class", times[name] > MANY ? "share much" : "share");
      words.textContent = note(times[name]);
    }
    view.setTitle(title);
    describe(title, SOURCES.map((name) => `${name}: ${note(times[name])}`).join("; "));
    table(SOURCES.map((name) => ({
      source: name, share: `${Math.round(100 * shares[name])}%`, "the paper's": `${Math.round(100 * paper[name])}%`,
      "tokens there are": thousands(tokens[name]), epochs: times[name].toFixed(2),
    })));
    view.root.dataset.epochs = SOURCES.map((name) => times[name].toFixed(4)).join(" ");
    view.say(title);
    drawn(view.root);
  };
  const handlers = names.map((name) => {
    const moved = () => {
      const told = Object.fromEntries(names.map((one) => [one, model.get(one)])), cut = cutBack(told, name);
      if (cut[name] !== told[name]) { model.set(name, cut[name]); model.save_changes(); return; }
      draw();
    };
    model.on(`change:${name}`, moved);
    return [name, moved];
  });
  draw();
  return () => {
    for (const [name, moved] of handlers) model.off(`change:${name}`, moved);
    for (const one of sliders) one.stop();
    view.stop();
  };
}

export default { render };
