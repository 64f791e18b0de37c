// The page: shows a pair, takes answers by key and by button, hands them to be saved, shows the next pair at once.

const running = new WeakMap();
const ZOOMS = [1, 2, 3];
const ALWAYS = ["undo", "guidelines", "keys", "close", "fullscreen"]; // what can be done without a pair

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".pk");
  // Streamlit calls this again when it renders anew; the page goes on as it is.
  if (running.get(root)?.data.annotator === data.annotator) return running.get(root).leave;
  running.get(root)?.leave();
  const page = new AnnotationPage(root, data);
  running.set(root, page);
  page.start();
  return page.leave;
}

class AnnotationPage {
  constructor(root, data) {
    this.root = root;
    this.data = data;
    this.task = null; // what is on the screen
    this.following = null; // what the other player loads meanwhile: {task, loaded}
    this.previous = null; // the comparison that undo would bring back
    this.asked = 0; // how often the server was asked what is ours
    this.given = new Map(); // comparison -> what this page has sent, shown again after an undo
    this.readyAt = null;
    this.busy = true;
    this.skeletonOn = false;
    this.listening = new AbortController();
    this.context = new AudioContext({ latencyHint: "interactive" });
    this.client = new VoteClient(data.api, data.annotator, data.session, {
      saved: (ballot) => this.saved(ballot),
      refused: (error, ballot) => this.refused(error, ballot),
      waiting: () => this.say("waiting", "No connection. Not saved yet – trying again…"),
    });
    const frames = { left: this.find('figure[data-side="left"] .frame'), right: this.find('figure[data-side="right"] .frame') };
    this.players = [0, 1].map(() => new PairPlayer(frames, this.context, () => this.showPlayback()));
    this.player = this.players[0];
    this.form = new BallotForm(this.find("form.ballot"), data.criteria, data.confidence, (index, choice) => this.answer(index, choice));
    this.check = new SoundCheck(this.find("dialog.sound-check"), this.context, (result) => this.take(this.client.soundCheck(result)));
    this.leave = () => {
      this.listening.abort();
      this.client.closed = true;
      for (const player of this.players) player.destroy();
      this.context.close();
      running.delete(root);
    };
  }

  find(selector) { return this.root.querySelector(selector); }
  button(name) { return this.find(`[data-act="${name}"]`); }
  get openDialog() { return this.find("dialog[open]"); }
  get votingOpen() { return this.readyAt !== null && (!this.data.watch_first || this.player.playedThrough); }

  async start() {
    this.find(".who").textContent = this.data.annotator;
    this.find("a.lead").hidden = !this.data.lead;
    this.find("dialog.guidelines .text").innerHTML = this.data.guidelines.html; // rendered without raw HTML
    this.find("dialog.keys .tables").replaceChildren(...helpTables());
    this.listen();
    await this.attempt(async () => {
      await this.client.drain();
      await this.take(this.client.task());
    });
  }

  listen() {
    const signal = this.listening.signal;
    this.root.addEventListener("click", (event) => this.clicked(event), { signal });
    this.find("form.ballot").addEventListener("submit", (event) => event.preventDefault(), { signal });
    this.find(".scrub").addEventListener("input", (event) => this.player.seek(Number(event.target.value)), { signal });
    for (const figure of this.root.querySelectorAll("figure")) {
      const { side } = figure.dataset;
      const frame = figure.querySelector(".frame");
      const focus = () => { if (this.task && !this.task.same_sound && this.votingOpen) this.player.hear(side); };
      frame.addEventListener("focus", focus, { signal });
      frame.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") focus(); }, { signal });
      frame.addEventListener("pointermove", (event) => { if (event.buttons) this.pan(-event.movementX / frame.clientWidth, -event.movementY / frame.clientHeight); }, { signal });
    }
    // Captured before Streamlit's own shortcuts (R runs its script again, C clears its cache).
    window.addEventListener("keydown", (event) => this.pressed(event), { signal, capture: true });
  }

  clicked(event) {
    this.wake();
    const button = event.target.closest("button");
    if (button?.dataset.check) this.check.clicked(button);
    else if (button?.dataset.reason) this.skip(button.dataset.reason);
    else if (button?.dataset.act) this.act(button.dataset.act);
    // A click must not leave the keys in a control: Space plays, it does not press the button again.
    if (event.detail > 0 && !this.openDialog && !event.target.closest("textarea")) this.root.getRootNode().activeElement?.blur();
  }

  // Browsers keep sound back until a key or a click.
  wake() { if (this.context.state === "suspended") this.context.resume(); }

  pressed(event) {
    this.wake();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.composedPath()[0];
    const typing = target.matches?.('input[type="text"], textarea');
    if (!typing && ["r", "c"].includes(event.key.toLowerCase())) event.stopPropagation();
    const ours = this.openDialog ? this.pressedInDialog(event, typing) : typing ? this.pressedInText(event, target) : this.pressedOnPage(event, target);
    if (ours) {
      event.preventDefault();
      event.stopImmediatePropagation();
    } else if (typing) event.stopPropagation();
  }

  // Each of these returns whether the key was ours.
  pressedInText(event, target) {
    if (event.key !== "Escape" && !(event.key === "Enter" && !event.shiftKey)) return false;
    target.blur();
    return true;
  }

  pressedInDialog(event, typing) {
    if (this.openDialog.matches(".sound-check")) return event.key === "Escape" || this.check.pressed(event.key);
    if (!this.openDialog.matches(".skip")) return event.key === "?" && this.openDialog.matches(".keys") ? (this.act("close"), true) : false;
    if (typing && event.key === "Enter") {
      const reason = this.find("input.reason").value.trim();
      if (reason) this.skip(reason);
      return true;
    }
    if (typing || !"123".includes(event.key)) return false;
    this.skip(this.root.querySelectorAll(".reasons button")[Number(event.key) - 1].dataset.reason);
    return true;
  }

  pressedOnPage(event, target) {
    const arrow = event.key.startsWith("Arrow");
    if (arrow && event.shiftKey) {
      this.pan(0.08 * ((event.key === "ArrowRight") - (event.key === "ArrowLeft")), 0.08 * ((event.key === "ArrowDown") - (event.key === "ArrowUp")));
      return true;
    }
    // What a focused control does with a key by itself stays its own.
    if (target.matches?.("button, a") && [" ", "Enter"].includes(event.key)) return false;
    if (target.matches?.("input") && (arrow || event.key === " ")) return false;
    const number = ["1", "2", "3", "4"].indexOf(event.key);
    if (number >= 0) this.answer(this.form.active, CHOICES[number].id, true);
    else if (event.key === "ArrowUp" || event.key === "ArrowDown") this.form.move(event.key === "ArrowUp" ? -1 : 1);
    else {
      const act = KEYS[event.key.toLowerCase()];
      if (!act) return false;
      if (!event.repeat || ["back", "forward"].includes(act)) this.act(act);
    }
    return true;
  }

  act(name) {
    if (!this.task && !ALWAYS.includes(name)) return;
    const { player, form } = this;
    ({
      play: () => player.toggle(),
      restart: () => player.restart(),
      back: () => player.step(-1),
      forward: () => player.step(1),
      slower: () => player.changeRate(-1),
      faster: () => player.changeRate(1),
      loop: () => player.setLooping(!player.looping),
      "range-start": () => player.setRange("start"),
      "range-end": () => player.setRange("end"),
      "range-clear": () => player.clearRange(),
      zoom: () => this.zoom(),
      fullscreen: () => (this.root.getRootNode().fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen()),
      skeleton: () => this.toggleSkeleton(),
      mute: () => player.mute(!player.muted),
      sound: () => player.hear(player.sounding === "left" ? "right" : "left"),
      "sound-left": () => player.hear("left"),
      "sound-right": () => player.hear("right"),
      "wrong-left": () => this.mark("left"),
      "wrong-right": () => this.mark("right"),
      "wrong-undo": () => { form.takeMarkBack(); this.showPlayback(); },
      "both-bad": () => this.data.criteria.forEach((_, index) => this.answer(index, "both_bad")),
      "sure-1": () => form.setConfidence(1),
      "sure-2": () => form.setConfidence(2),
      "sure-3": () => form.setConfidence(3),
      "flag-broken": () => form.toggleFlag("broken"),
      "flag-offensive": () => form.toggleFlag("offensive"),
      comment: () => form.comment.focus(),
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
    const dialog = this.find(`dialog.${name}`);
    dialog.showModal();
    dialog.scrollTop = 0; // its focused button may be at the end
  }

  zoom() {
    this.zoomed = ZOOMS[(ZOOMS.indexOf(this.zoomed ?? 1) + 1) % ZOOMS.length];
    this.showZoom();
  }

  pan(right, down) {
    if ((this.zoomed ?? 1) === 1) return;
    this.centre = this.centre.map((at, axis) => Math.min(1, Math.max(0, at + [right, down][axis])));
    this.showZoom();
  }

  showZoom() {
    const clips = this.find(".clips");
    clips.style.setProperty("--zoom", this.zoomed ?? 1);
    clips.style.setProperty("--at", this.centre.map((at) => `${100 * at}%`).join(" "));
    this.button("zoom").setAttribute("aria-pressed", (this.zoomed ?? 1) > 1);
    this.button("zoom").textContent = this.zoomed > 1 ? `Zoom ${this.zoomed}×` : "Zoom";
  }

  toggleSkeleton() {
    if (!this.task.skeleton) return this.say("hint", "This pair has no skeleton.");
    this.skeletonOn = !this.skeletonOn;
    this.player.showSkeleton(this.skeletonOn);
    this.button("skeleton").setAttribute("aria-pressed", this.skeletonOn);
  }

  mark(clip) {
    const begun = this.form.open[clip] === null && !this.player.range;
    this.form.mark(clip, this.player.time, this.player.range);
    this.say("hint", begun ? `Marked from here, ${clip} clip. Press again where it ends.` : `Marked, ${clip} clip.`);
    this.showPlayback();
  }

  answer(index, choice, moveOn = false) {
    if (this.busy || !this.votingOpen) {
      if (!this.busy) this.say("hint", this.readyAt === null ? "There is nothing to judge yet: both clips must play." : "Watch both clips to the end first.");
      return this.form.draw(); // nothing was seen yet
    }
    this.form.answer(index, choice, moveOn);
    this.say("", "");
    this.showState();
  }

  save() {
    if (this.busy) return;
    if (this.readyAt === null) return this.say("hint", "There is nothing to judge yet: both clips must play.");
    if (!this.votingOpen) return this.say("hint", "Watch both clips to the end first.");
    if (!this.form.complete) return this.say("hint", "Answer all questions first.");
    performance.mark("prefkit:save");
    this.send(this.form.content.answers, null);
  }

  skip(reason) {
    this.openDialog?.close();
    if (this.busy) return;
    this.send(Object.fromEntries(this.data.criteria.map((criterion) => [criterion.id, "skip"])), reason);
  }

  // The next pair comes at once; the line below says when this one is on the server's disk.
  send(answers, reason) {
    const { task, player } = this;
    const content = this.form.content;
    if (!reason) this.given.set(task.comparison_id, content);
    const ballot = {
      comparison_id: task.comparison_id,
      repeat: task.repeat,
      left: task.left,
      guidelines_version: this.data.guidelines.version,
      seconds: this.readyAt === null ? null : (performance.now() - this.readyAt) / 1000,
      watched_left: player.watchedNow("left"),
      watched_right: player.watchedNow("right"),
      seeks: player.seeks,
      replays: player.replays,
      confidence: content.confidence,
      comment: content.comment,
      flags: content.flags,
      ranges: content.marks,
      skip_reason: reason,
      votes: Object.entries(answers).map(([criterion, choice]) => ({ criterion, choice })),
    };
    this.say("saving", "Saving…");
    this.previous = task.comparison_id;
    this.client.vote(ballot);
    this.showNext();
  }

  saved(ballot) {
    performance.mark("prefkit:saved");
    if (!this.client.unsent.length) this.say("saved", ballot.skip_reason ? "Skipped, saved." : "Saved.");
    this.take(this.client.task()).catch((error) => {
      if (error.name === "AbortError") return;
      this.say("error", error.message);
      if (!(error instanceof Refused)) throw error;
    });
  }

  refused(error) {
    this.attempt(() => this.take(this.client.task())).then(() => this.say("error", error.message));
  }

  undo() {
    if (this.busy || !this.previous) return;
    return this.attempt(async () => {
      await this.client.drain();
      await this.take(this.client.undo(this.previous), true);
      this.say("", "Taken back. Answer again.");
    });
  }

  // Runs one thing at a time; what the server refuses is said in its own words.
  async attempt(work) {
    this.busy = true;
    this.showState();
    try {
      await work();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.say("error", error.message);
      if (!(error instanceof Refused)) throw error;
    } finally {
      this.busy = false;
      this.showState();
    }
  }

  // Waits for what the server says is ours; an answer that was overtaken by a later question says nothing.
  async take(answer, anew = false) {
    const mine = ++this.asked;
    const found = await answer;
    if (mine === this.asked) this.arrived(found, anew);
  }

  // Takes what the server says is ours now: the pair on the screen stays, unless it was taken away.
  arrived({ tasks, progress, previous, sound_check }, anew = false) {
    if (sound_check) return this.openDialog?.matches(".sound-check") || this.check.open();
    const unsent = new Set(this.client.unsent.map(nameOf));
    const ours = tasks.filter((task) => !unsent.has(nameOf(task)));
    if (!unsent.size) this.previous = previous;
    this.showProgress(progress);
    if (anew || !ours.some((task) => same(task, this.task))) this.show(ours[0] ?? null);
    this.preload(ours.find((task) => !same(task, this.task)) ?? null);
    this.showState();
  }

  get spare() { return this.players.find((player) => player !== this.player); }

  // Gets the next pair ready behind the one on the screen.
  preload(task) {
    if (same(task, this.following?.task)) return;
    this.following = task && { task, loaded: this.spare.load(task) };
    this.following?.loaded.catch(() => {}); // what cannot be played is said when its turn comes
    if (!task) this.spare.unload();
  }

  showNext() {
    const next = this.following?.task ?? null;
    if (next) return this.show(next);
    this.show(null, this.client.unsent.length > 0);
  }

  // waiting: nothing is here now, but the server has not answered yet.
  show(task, waiting = false) {
    const loaded = task && same(task, this.following?.task) ? this.following.loaded : null;
    if (loaded) this.swap();
    this.task = task;
    this.form.reset((task && this.given.get(task.comparison_id)) || {});
    this.readyAt = null;
    this.centre = task?.face ?? [0.5, 0.4];
    this.showZoom();
    this.find(".finished").hidden = task !== null || waiting;
    this.showCompletion();
    this.find(".synthetic").hidden = !task?.synthetic;
    for (const note of this.root.querySelectorAll(".broken")) note.hidden = true;
    this.root.dataset.state = task || waiting ? "loading" : "finished";
    this.root.dataset.comparison = task?.comparison_id ?? "";
    this.player.show(true);
    if (task) this.begin(task, loaded ?? this.player.load(task));
    else this.player.unload();
    this.showState();
  }

  swap() {
    const [old, fresh] = [this.player, this.spare];
    old.pause();
    old.show(false);
    Object.assign(fresh, { rate: old.rate, looping: old.looping });
    fresh.mute(old.muted);
    this.player = fresh;
    this.following = null;
  }

  async begin(task, loaded) {
    try {
      await loaded;
    } catch (problem) {
      if (problem?.name === "AbortError" || this.task !== task) return;
      this.root.dataset.state = "broken";
      if (SIDES.includes(problem)) this.find(`figure[data-side="${problem}"] .broken`).hidden = false;
      else this.say("error", "The sound of this pair did not arrive. Reload the page.");
      return;
    }
    if (this.task !== task) return;
    this.readyAt = performance.now();
    this.root.dataset.state = "ready";
    this.player.showSkeleton(this.skeletonOn);
    this.showState();
    if (this.openDialog) return;
    await this.player.play();
    performance.mark("prefkit:playing");
  }

  showCompletion() {
    const link = this.find(".finished a");
    link.hidden = !this.data.completion_url;
    if (this.data.completion_url) link.href = this.data.completion_url;
  }

  showProgress({ done, total }) {
    const bar = this.find(".progress");
    bar.setAttribute("aria-valuenow", done);
    bar.setAttribute("aria-valuemax", total);
    bar.firstElementChild.style.width = total ? `${(100 * done) / total}%` : "0";
    this.find(".count").textContent = `${done} of ${total}`;
  }

  showState() {
    this.form.draw();
    this.root.dataset.voting = this.votingOpen ? "open" : "closed";
    this.button("save").disabled = this.busy || !this.form.complete || !this.votingOpen;
    for (const button of this.root.querySelectorAll('[data-act="undo"]')) button.disabled = this.busy || !this.previous;
  }

  showPlayback() {
    const { player } = this;
    if (!player) return; // not built yet
    if ((this.root.dataset.voting === "open") !== this.votingOpen) this.showState();
    this.button("play").textContent = player.playing ? "Pause" : "Play";
    this.button("mute").setAttribute("aria-pressed", player.muted);
    this.button("loop").setAttribute("aria-pressed", player.looping);
    this.root.dataset.buffering = player.stalled.size > 0;
    for (const side of SIDES) {
      const button = this.button(`sound-${side}`);
      button.setAttribute("aria-pressed", player.sounding === side);
      button.disabled = player.ready && player.sound.buffers[side] === null;
      button.textContent = button.disabled ? "No sound" : "Sound";
      this.showMarks(side);
    }
    this.find(".rate").textContent = `${player.rate}×`;
    const scrub = this.find(".scrub");
    scrub.max = player.duration || 1;
    scrub.value = player.time;
    this.showSpan(this.find(".range"), player.range);
    this.find(".gate").hidden = this.votingOpen || this.readyAt === null;
    this.find(".gate span").style.width = `${(100 * player.seen.size) / player.stretches}%`;
    const frames = Math.max(1, Math.round(player.duration * player.fps));
    const frame = Math.min(frames, player.frame + 1);
    this.find(".time").textContent = `${frame} / ${frames}`;
    scrub.setAttribute("aria-valuetext", `frame ${frame} of ${frames}`);
  }

  showMarks(side) {
    const strip = this.find(`figure[data-side="${side}"] .marks`);
    const open = this.form.open[side];
    const marks = this.form.marks.filter((mark) => mark.clip === side);
    if (open !== null) marks.push({ start: Math.min(open, this.player.time), end: Math.max(open, this.player.time) });
    while (strip.children.length > marks.length) strip.lastChild.remove();
    while (strip.children.length < marks.length) strip.append(document.createElement("span"));
    marks.forEach((mark, index) => this.showSpan(strip.children[index], mark));
  }

  showSpan(element, span) {
    element.hidden = !span;
    if (!span) return;
    const duration = this.player.duration || 1;
    element.style.left = `${(100 * span.start) / duration}%`;
    element.style.width = `${Math.max(1, (100 * (span.end - span.start)) / duration)}%`;
  }

  say(kind, message) {
    const status = this.find(".status");
    status.dataset.kind = kind;
    status.textContent = message;
  }
}

function nameOf(task) { return `${task.comparison_id} ${task.repeat}`; }
function same(one, other) { return one && other ? nameOf(one) === nameOf(other) : one === other || (!one && !other); }
