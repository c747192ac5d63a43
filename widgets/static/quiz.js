// One question at a time: choices are real radio buttons, so the keyboard works as everywhere.

export function verdicts(questions, answers) {
  return questions.map((question, i) => answers[i] === undefined ? null : question.options[answers[i]].correct);
}

function render({ model, el }) {
  const questions = model.get("questions");
  const parts = frame(el, { title: `Quiz ${model.get("name")}`, name: "quiz" });
  const nav = node(parts.root, "nav", { class: "l3-quiz-nav", "aria-label": "questions" });
  const body = node(parts.root, "div", { class: "l3-quiz-body" });
  let current = 0;

  const marks = questions.map((_, i) => button(nav, String(i + 1), () => { current = i; draw(); body.querySelector("legend").focus(); }));

  function drawNav() {
    verdicts(questions, model.get("answers")).forEach((right, i) => {
      const sign = right === null ? "" : right ? " ✓" : " ✗";
      marks[i].textContent = `${i + 1}${sign}`;
      marks[i].setAttribute("aria-label", `question ${i + 1}${right === null ? "" : right ? ", right" : ", wrong"}`);
      marks[i].setAttribute("aria-current", i === current ? "true" : "false");
    });
  }

  function draw() {
    drawNav();
    body.replaceChildren();
    const question = questions[current];
    const field = node(body, "fieldset", { class: "l3-quiz-field" });
    const legend = keepKeys(node(field, "legend", { tabindex: -1 }));
    node(legend, "span", {}, `${current + 1}. ${question.prompt}`);
    node(legend, "span", { class: "l3-quiz-section" }, ` ${question.section}`);
    const group = uniqueId("quiz");
    question.options.forEach((option, i) => {
      const line = node(field, "label", { class: "l3-quiz-option" });
      const input = keepKeys(node(line, "input", { type: "radio", name: group, value: i }));
      input.checked = model.get("answers")[current] === i;
      node(line, "span", {}, option.text);
    });
    const actions = node(body, "div", { class: "l3-controls" });
    const why = node(body, "p", { class: "l3-quiz-why" });
    const next = () => { current = (current + 1) % questions.length; draw(); body.querySelector("legend").focus(); };
    button(actions, "Answer", () => {
      const chosen = field.querySelector("input:checked");
      if (!chosen) { explain(why, null); return; }
      model.set("answers", { ...model.get("answers"), [current]: Number(chosen.value) });
      model.save_changes();
      drawNav();
      explain(why, question.options[Number(chosen.value)]);
      drawn(parts.root);
    });
    button(actions, "Next question", next);
    const given = model.get("answers")[current];
    if (given !== undefined) explain(why, question.options[given], false);
  }

  function explain(where, option, aloud = true) {
    where.replaceChildren();
    if (option === null) { where.textContent = "Choose one first."; parts.say("Choose one first."); return; }
    node(where, "span", { class: option.correct ? "l3-good" : "l3-bad" }, option.correct ? "✓ Right. " : "✗ Not this one. ");
    where.append(option.why);
    if (aloud) parts.say(where.textContent);
  }

  draw();
  return () => parts.stop();
}

export default { render };
