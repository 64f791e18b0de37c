// The answers to one pair: a question per criterion, how sure, flags, a comment, marked ranges.

const CHOICES = [
  { id: "left", label: "Left" },
  { id: "tie", label: "Same" },
  { id: "right", label: "Right" },
  { id: "both_bad", label: "Both bad" },
];

class BallotForm {
  // onChoice(index, choice) is called when a question is answered with the pointer.
  constructor(form, criteria, withConfidence, onChoice) {
    this.form = form;
    this.criteria = criteria;
    this.onChoice = onChoice;
    form.querySelector(".criteria").replaceChildren(...criteria.map((criterion, index) => this.fieldset(criterion, index)));
    form.querySelector(".confidence").hidden = !withConfidence;
    this.comment = form.querySelector(".comment");
    this.reset({});
  }

  reset({ answers = {}, confidence = null, flags = [], comment = "", marks = [] }) {
    this.answers = { ...answers };
    this.confidence = confidence;
    this.flags = new Set(flags);
    this.marks = [...marks]; // {clip: "left" or "right", start, end}, in seconds
    this.open = { left: null, right: null }; // where a range begins that has no end yet
    this.comment.value = comment;
    this.active = 0;
  }

  get content() {
    return { answers: { ...this.answers }, confidence: this.confidence, flags: [...this.flags], comment: this.comment.value.trim(), marks: [...this.marks] };
  }

  get complete() { return this.criteria.every((criterion) => criterion.id in this.answers); }

  fieldset(criterion, index) {
    const fieldset = document.createElement("fieldset");
    fieldset.dataset.criterion = criterion.id;
    const legend = Object.assign(document.createElement("legend"), { textContent: criterion.label });
    const question = Object.assign(document.createElement("p"), { textContent: criterion.question });
    const options = Object.assign(document.createElement("div"), { className: "options" });
    CHOICES.forEach((choice, number) => {
      const label = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "radio", name: criterion.id, value: choice.id });
      input.addEventListener("change", () => this.onChoice(index, choice.id));
      const key = Object.assign(document.createElement("kbd"), { textContent: number + 1, ariaHidden: "true" });
      label.append(input, choice.label, key);
      options.append(label);
    });
    fieldset.append(legend, question, options);
    fieldset.addEventListener("focusin", () => { this.active = index; this.draw(); });
    return fieldset;
  }

  // moveOn: go to the next question, as keys do.
  answer(index, choice, moveOn) {
    this.answers[this.criteria[index].id] = choice;
    this.active = moveOn ? Math.min(index + 1, this.criteria.length - 1) : index;
    this.draw();
  }

  move(steps) {
    this.active = Math.min(this.criteria.length - 1, Math.max(0, this.active + steps));
    this.draw();
  }

  toggleFlag(name) {
    if (!this.flags.delete(name)) this.flags.add(name);
    this.draw();
  }

  setConfidence(level) {
    this.confidence = this.confidence === level ? null : level;
    this.draw();
  }

  // With a looped range the mark is that range; else the first call is where it begins, the second where it ends.
  mark(clip, time, range) {
    if (range) this.marks.push({ clip, ...range });
    else if (this.open[clip] === null) this.open[clip] = time;
    else {
      const [start, end] = [this.open[clip], time].sort((a, b) => a - b);
      this.marks.push({ clip, start, end });
      this.open[clip] = null;
    }
    this.draw();
  }

  takeMarkBack() {
    const open = ["left", "right"].find((clip) => this.open[clip] !== null);
    if (open) this.open[open] = null;
    else this.marks.pop();
    this.draw();
  }

  draw() {
    this.form.querySelectorAll("fieldset").forEach((fieldset, index) => {
      fieldset.classList.toggle("active", index === this.active);
      for (const input of fieldset.querySelectorAll("input")) input.checked = this.answers[fieldset.dataset.criterion] === input.value;
    });
    for (const button of this.form.querySelectorAll('[data-act^="sure-"]')) button.setAttribute("aria-pressed", this.confidence === Number(button.dataset.act.slice(5)));
    for (const button of this.form.querySelectorAll('[data-act^="flag-"]')) button.setAttribute("aria-pressed", this.flags.has(button.dataset.act.slice(5)));
  }
}
