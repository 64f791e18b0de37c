// The page: shows a comparison, takes the answers by key and by button, saves them, shows the next one.

const CHOICES = [
  { id: "left", label: "Left" },
  { id: "tie", label: "Same" },
  { id: "right", label: "Right" },
  { id: "both_bad", label: "Both bad" },
];
const running = new WeakMap();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".pk");
  // Streamlit calls this again when it renders anew; the page goes on as it is.
  if (running.get(root)?.annotator === data.annotator) return running.get(root).leave;
  running.get(root)?.leave();
  const page = new AnnotationPage(root, data);
  running.set(root, page);
  page.start();
  return page.leave;
}

class AnnotationPage {
  constructor(root, data) {
    this.root = root;
    this.annotator = data.annotator;
    this.data = data;
    this.task = null;
    this.previous = null; // the comparison that undo would bring back
    this.given = new Map(); // comparison -> answers saved by this page, shown again after an undo
    this.answers = {};
    this.active = 0;
    this.busy = true;
    this.readyAt = null;
    this.listening = new AbortController();
    this.client = new VoteClient(data.api, data.annotator, () => this.say("waiting", "No connection. Not saved yet – trying again…"));
    this.player = new PairPlayer(this.video("left"), this.video("right"), () => this.showPlayback());
    this.leave = () => {
      this.listening.abort();
      this.client.closed = true;
      this.player.destroy();
      running.delete(root);
    };
  }

  find(selector) { return this.root.querySelector(selector); }
  video(side) { return this.find(`figure[data-side="${side}"] video`); }
  button(name) { return this.find(`[data-act="${name}"]`); }

  async start() {
    this.build();
    this.listen();
    await this.attempt(async () => {
      try {
        await this.client.sendKept();
      } catch (error) {
        if (!(error instanceof Refused)) throw error; // refused: already saved, or no longer wanted
      }
      this.show(await this.client.task());
    });
  }

  build() {
    this.find(".who").textContent = this.annotator;
    this.find("dialog.guidelines .text").innerHTML = this.data.guidelines.html; // rendered without raw HTML
    this.find(".criteria").replaceChildren(...this.data.criteria.map((criterion, index) => this.fieldset(criterion, index)));
  }

  fieldset(criterion, index) {
    const fieldset = document.createElement("fieldset");
    fieldset.dataset.criterion = criterion.id;
    const legend = document.createElement("legend");
    legend.textContent = criterion.label;
    const question = document.createElement("p");
    question.textContent = criterion.question;
    const options = document.createElement("div");
    options.className = "options";
    CHOICES.forEach((choice, number) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      input.type = "radio";
      input.name = criterion.id;
      input.value = choice.id;
      input.addEventListener("change", () => this.answer(index, choice.id));
      const key = document.createElement("kbd");
      key.textContent = number + 1;
      key.ariaHidden = "true";
      label.append(input, choice.label, key);
      options.append(label);
    });
    fieldset.append(legend, question, options);
    fieldset.addEventListener("focusin", () => { this.active = index; this.showAnswers(); });
    return fieldset;
  }

  listen() {
    const signal = this.listening.signal;
    this.root.addEventListener("click", (event) => this.clicked(event), { signal });
    this.find("form.ballot").addEventListener("submit", (event) => event.preventDefault(), { signal });
    this.find(".scrub").addEventListener("input", (event) => this.player.seek(Number(event.target.value)), { signal });
    // Captured before Streamlit's own shortcuts (R runs its script again, C clears its cache).
    window.addEventListener("keydown", (event) => this.pressed(event), { signal, capture: true });
  }

  clicked(event) {
    this.player.sound.wake();
    const button = event.target.closest("button");
    if (button?.dataset.reason) this.skip(button.dataset.reason);
    else if (button?.dataset.act) this.act(button.dataset.act);
    // A click must not leave the keys in a control: Space plays, it does not press the button again.
    if (event.detail > 0 && !this.openDialog) this.root.getRootNode().activeElement?.blur();
  }

  get openDialog() { return this.find("dialog[open]"); }

  pressed(event) {
    this.player.sound.wake();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.composedPath()[0].matches?.('input[type="text"]');
    if (!typing && ["r", "c"].includes(event.key.toLowerCase())) event.stopPropagation();
    if (this.openDialog ? this.pressedInDialog(event) : this.pressedOnPage(event)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }

  // Returns whether the key was ours.
  pressedInDialog(event) {
    const typing = event.composedPath()[0].matches?.("input");
    if (!this.openDialog.matches(".skip")) return false;
    if (typing && event.key === "Enter") {
      const reason = this.find("input.reason").value.trim();
      if (reason) this.skip(reason);
      return true;
    }
    if (typing || !"123".includes(event.key)) return false;
    this.skip(this.root.querySelectorAll(".reasons button")[Number(event.key) - 1].dataset.reason);
    return true;
  }

  pressedOnPage(event) {
    const target = event.composedPath()[0];
    const arrow = event.key.startsWith("Arrow");
    // What a focused control does with a key by itself stays its own.
    if (target.matches?.("button") && [" ", "Enter"].includes(event.key)) return false;
    if (target.matches?.("input") && (arrow || event.key === " ")) return false;
    const number = ["1", "2", "3", "4"].indexOf(event.key);
    if (number >= 0) this.answer(this.active, CHOICES[number].id, true);
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") this.move(event.key === "ArrowUp" ? -1 : 1);
    else {
      const act = KEYS[event.key.toLowerCase()];
      if (!act) return false;
      if (!event.repeat || ["back", "forward"].includes(act)) this.act(act);
    }
    return true;
  }

  act(name) {
    if (!this.task && !["undo", "guidelines", "keys", "close"].includes(name)) return;
    const { player } = this;
    ({
      play: () => player.toggle(),
      restart: () => player.restart(),
      back: () => player.step(-1),
      forward: () => player.step(1),
      slower: () => player.changeRate(-1),
      faster: () => player.changeRate(1),
      mute: () => player.mute(!player.muted),
      sound: () => player.hear(player.sounding === "left" ? "right" : "left"),
      "sound-left": () => player.hear("left"),
      "sound-right": () => player.hear("right"),
      "both-bad": () => this.data.criteria.forEach((_, index) => this.answer(index, "both_bad")),
      save: () => this.save(),
      skip: () => this.open("skip"),
      undo: () => this.undo(),
      guidelines: () => this.open("guidelines"),
      keys: () => this.open("keys"),
      close: () => this.openDialog?.close(),
    })[name]?.();
  }

  open(name) {
    if (this.busy && name === "skip") return;
    this.player.pause();
    this.find("input.reason").value = "";
    this.find(`dialog.${name}`).showModal();
  }

  move(steps) {
    this.active = Math.min(this.data.criteria.length - 1, Math.max(0, this.active + steps));
    this.showAnswers();
  }

  // moveOn: go to the next question, as keys do.
  answer(index, choice, moveOn = false) {
    if (this.busy || this.readyAt === null) return this.showAnswers(); // nothing was seen yet
    this.answers[this.data.criteria[index].id] = choice;
    this.active = moveOn ? Math.min(index + 1, this.data.criteria.length - 1) : index;
    this.say("", "");
    this.showAnswers();
  }

  get complete() { return this.data.criteria.every((criterion) => criterion.id in this.answers); }

  async save() {
    if (this.busy) return;
    if (this.readyAt === null) return this.say("hint", "There is nothing to judge yet: both clips must play.");
    if (!this.complete) return this.say("hint", "Answer all three questions first.");
    this.given.set(this.task.comparison_id, { ...this.answers });
    await this.post(this.answers, null);
  }

  async skip(reason) {
    this.openDialog?.close();
    if (this.busy) return;
    await this.post(Object.fromEntries(this.data.criteria.map((criterion) => [criterion.id, "skip"])), reason);
  }

  post(answers, reason) {
    const ballot = {
      comparison_id: this.task.comparison_id,
      left: this.task.left,
      guidelines_version: this.data.guidelines.version,
      seconds: this.readyAt === null ? null : (performance.now() - this.readyAt) / 1000,
      watched_left: this.player.watchedNow("left"),
      watched_right: this.player.watchedNow("right"),
      skip_reason: reason,
      votes: Object.entries(answers).map(([criterion, choice]) => ({ criterion, choice })),
    };
    return this.attempt(async () => {
      this.say("saving", "Saving…");
      const answer = await this.client.vote(ballot);
      this.say("saved", reason ? "Skipped, saved." : "Saved.");
      this.show(answer);
    });
  }

  undo() {
    if (this.busy || !this.previous) return;
    return this.attempt(async () => {
      const answer = await this.client.undo(this.previous);
      this.say("", "Taken back. Answer again.");
      this.show(answer);
    });
  }

  // Runs one thing at a time; what the server refuses is said in its own words.
  async attempt(work) {
    this.busy = true;
    this.showAnswers();
    try {
      await work();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.say("error", error.message);
      if (!(error instanceof Refused)) throw error;
    } finally {
      this.busy = false;
      this.showAnswers();
    }
  }

  show({ task, progress, previous }) {
    this.task = task;
    this.previous = previous;
    this.answers = { ...(task && this.given.get(task.comparison_id)) };
    this.active = 0;
    this.readyAt = null;
    this.showProgress(progress);
    this.find(".finished").hidden = task !== null;
    this.find(".synthetic").hidden = !task?.synthetic;
    for (const note of this.root.querySelectorAll(".broken")) note.hidden = true;
    this.root.dataset.state = task ? "loading" : "finished";
    this.root.dataset.comparison = task?.comparison_id ?? "";
    if (task) this.loadClips(task);
    else this.player.unload();
  }

  async loadClips(task) {
    try {
      await this.player.load(task.clips, task.sounds, task.fps);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.root.dataset.state = "broken";
      if (problem in this.player.videos) this.find(`figure[data-side="${problem}"] .broken`).hidden = false;
      else this.say("error", "The sound of this pair did not arrive. Reload the page.");
      return;
    }
    this.readyAt = performance.now();
    this.root.dataset.state = "ready";
    this.showAnswers();
    this.player.play();
  }

  showProgress({ done, total }) {
    const bar = this.find(".progress");
    bar.setAttribute("aria-valuenow", done);
    bar.setAttribute("aria-valuemax", total);
    bar.firstElementChild.style.width = total ? `${(100 * done) / total}%` : "0";
    this.find(".count").textContent = `${done} of ${total}`;
  }

  showAnswers() {
    this.root.querySelectorAll("fieldset").forEach((fieldset, index) => {
      fieldset.classList.toggle("active", index === this.active);
      for (const input of fieldset.querySelectorAll("input")) {
        input.checked = this.answers[fieldset.dataset.criterion] === input.value;
      }
    });
    this.button("save").disabled = this.busy || !this.complete;
    for (const button of this.root.querySelectorAll('[data-act="undo"]')) button.disabled = this.busy || !this.previous;
  }

  showPlayback() {
    const { player } = this;
    this.button("play").textContent = player.playing ? "Pause" : "Play";
    this.button("mute").setAttribute("aria-pressed", player.muted);
    for (const side of ["left", "right"]) {
      const button = this.button(`sound-${side}`);
      button.setAttribute("aria-pressed", player.sounding === side);
      button.disabled = player.ready && player.sound.buffers[side] === null;
      button.textContent = button.disabled ? "No sound" : "Sound";
    }
    this.find(".rate").textContent = `${player.rate}×`;
    const scrub = this.find(".scrub");
    scrub.max = player.duration || 1;
    scrub.value = player.time;
    const frames = Math.max(1, Math.round(player.duration * player.fps));
    const frame = Math.min(frames, player.frame + 1);
    this.find(".time").textContent = `${frame} / ${frames}`;
    scrub.setAttribute("aria-valuetext", `frame ${frame} of ${frames}`);
  }

  say(kind, message) {
    const status = this.find(".status");
    status.dataset.kind = kind;
    status.textContent = message;
  }
}

const KEYS = {
  " ": "play", r: "restart", arrowleft: "back", arrowright: "forward", "-": "slower", "−": "slower", "+": "faster", "=": "faster",
  a: "sound", m: "mute", b: "both-bad", enter: "save", s: "skip", u: "undo", g: "guidelines", "?": "keys",
};
