// One question at a time: choices are real radio buttons, so the keyboard works as everywhere.

export function verdicts(questions, answers) {
  const rightOf = (question, answer) => question.options[answer].correct;
  return questions.map((it, i) => (answers[i] === undefined ? null : rightOf(it, answers[i])));
}

class LiveQuiz {
  constructor(model, el) {
    this.model = model;
    this.questions = model.get("questions");
    this.parts = frame(el, { title: `Quiz ${model.get("name")}`, name: "quiz" });
    const { root } = this.parts;
    const nav = node(root, "nav", { class: "l3-quiz-nav", "aria-label": "questions" });
    this.marks = this.questions.map((_, i) => button(nav, String(i + 1), () => this.go(i)));
    this.body = node(root, "div", { class: "l3-quiz-body" });
    this.current = 0;
    this.draw();
  }

  go(number) {
    this.current = number;
    this.draw();
    this.body.querySelector("legend").focus();
  }

  drawNav() {
    verdicts(this.questions, this.model.get("answers")).forEach((right, i) => {
      const [sign, words] =
        right === null ? ["", ""] : right ? [" ✓", ", right"] : [" ✗", ", wrong"];
      this.marks[i].textContent = `${i + 1}${sign}`;
      this.marks[i].setAttribute("aria-label", `question ${i + 1}${words}`);
      this.marks[i].setAttribute("aria-current", String(i === this.current));
    });
  }

  draw() {
    this.drawNav();
    this.body.replaceChildren();
    const question = this.questions[this.current];
    const given = this.model.get("answers")[this.current];
    this.field = node(this.body, "fieldset", { class: "l3-quiz-field" });
    const legend = keepKeys(node(this.field, "legend", { tabindex: -1 }));
    node(legend, "span", {}, `${this.current + 1}. ${question.prompt}`);
    node(legend, "span", { class: "l3-quiz-section" }, ` ${question.section}`);
    const group = uniqueId("quiz");
    question.options.forEach((option, i) => {
      const line = node(this.field, "label", { class: "l3-quiz-option" });
      const input = keepKeys(node(line, "input", { type: "radio", name: group, value: i }));
      input.checked = given === i;
      node(line, "span", {}, option.text);
    });
    const actions = node(this.body, "div", { class: "l3-controls" });
    this.why = node(this.body, "p", { class: "l3-quiz-why" });
    button(actions, "Answer", () => this.answer(question));
    button(actions, "Next question", () => this.go((this.current + 1) % this.questions.length));
    if (given !== undefined) this.explain(question.options[given], false);
  }

  answer(question) {
    const chosen = this.field.querySelector("input:checked");
    if (!chosen) {
      this.why.textContent = "Choose one first.";
      this.parts.say(this.why.textContent);
      return;
    }
    const answers = { ...this.model.get("answers"), [this.current]: Number(chosen.value) };
    this.model.set("answers", answers);
    this.model.save_changes();
    this.drawNav();
    this.explain(question.options[Number(chosen.value)], true);
    drawn(this.parts.root);
  }

  explain(option, aloud) {
    const [sign, words] = option.correct ? ["good", "✓ Right. "] : ["bad", "✗ Not this one. "];
    this.why.replaceChildren();
    node(this.why, "span", { class: `l3-${sign}` }, words);
    this.why.append(option.why);
    if (aloud) this.parts.say(this.why.textContent);
  }
}

function render({ model, el }) {
  const quiz = new LiveQuiz(model, el);
  return () => quiz.parts.stop();
}

export default { render };
