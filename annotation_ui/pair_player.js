// Plays two videos in step, with the sound of one of them. The left video is the clock.

const RATES = [0.25, 0.5, 0.75, 1];
const SEEK_ABOVE = 0.25; // seconds of drift that a rate change would take too long to heal
const NUDGE_ABOVE = 0.012; // seconds of drift that are left alone
const NUDGE = 0.25; // how much faster or slower the right video runs while it is brought back
const REST = 250; // milliseconds that a rate change needs until it shows
const PAUSE_BETWEEN_LOOPS = 350; // milliseconds
const STRETCH = 0.25; // seconds; a clip was played through when each stretch of it was
const SIDES = ["left", "right"];

// Keeps a running video at a time that runs too.
class Follower {
  constructor(video) {
    this.video = video;
    this.restUntil = performance.now() + REST;
    this.healedAt = null;
  }

  // Call it at every frame, with where the video should be.
  follow(time, rate) {
    const { video } = this;
    const now = performance.now();
    if (this.healedAt !== null && now >= this.healedAt) {
      video.playbackRate = rate;
      this.healedAt = null;
      this.restUntil = now + REST;
    }
    const drift = video.currentTime - time;
    if (video.ended || video.seeking || this.healedAt !== null || now <= this.restUntil || Math.abs(drift) <= NUDGE_ABOVE) return;
    // One measured step instead of constant steering: a rate change takes effect late and would overshoot.
    this.restUntil = now + REST;
    if (Math.abs(drift) > SEEK_ABOVE) video.currentTime = time;
    else {
      video.playbackRate = rate * (1 - Math.sign(drift) * NUDGE);
      this.healedAt = now + (1000 * Math.abs(drift)) / (NUDGE * rate);
    }
  }
}

class PairPlayer {
  // frames: {left, right}, the elements that get a video each. onChange() is called whenever something
  // that a page may show has changed. Several players may share frames; `show` chooses.
  constructor(frames, context, onChange) {
    this.frames = frames;
    this.videos = { left: this.makeVideo("left", "clip"), right: this.makeVideo("right", "clip") };
    this.overlays = null; // skeleton videos, made when first wanted
    this.followers = new Map(); // video -> how it is kept in step, since the last start
    this.sound = new Soundtrack(context);
    this.onChange = onChange;
    this.rate = 1;
    this.muted = false;
    this.looping = true;
    this.playing = false; // what the annotator wants; a video may still be waiting for data
    this.stalled = new Set();
    this.since = { left: null, right: null };
    this.ready = false;
    this.pair = 0; // counts loads, to tell what belongs to an earlier pair
    this.generation = 0; // counts starts, stops and seeks, to tell what a later one has overtaken
    this.listening = new AbortController();
    this.forget();
    for (const side of SIDES) this.listen(side);
  }

  makeVideo(side, kind) {
    const video = document.createElement("video");
    Object.assign(video, { playsInline: true, muted: true, preload: "auto", className: kind, tabIndex: -1 });
    if (kind === "clip") video.setAttribute("aria-label", side === "left" ? "Left clip" : "Right clip");
    else video.ariaHidden = "true";
    this.frames[side].prepend(video);
    return video;
  }

  forget() {
    this.sounding = "left";
    this.watched = { left: 0, right: 0 }; // seconds played
    this.seeks = 0;
    this.replays = 0;
    this.range = null; // {start, end} in seconds: what is looped
    this.seen = new Set(); // stretches played
    this.heard = { left: new Set(), right: new Set() };
    this.lastSeen = null;
  }

  get both() { return [this.videos.left, this.videos.right]; }
  get all() { return [...this.both, ...(this.overlays ?? [])]; }
  get duration() { return Math.max(...this.both.map((video) => video.duration || 0)); }
  get time() { return this.videos.left.ended ? this.videos.right.currentTime : this.videos.left.currentTime; }
  get ended() { return this.both.every((video) => video.ended); }
  get frame() { return Math.floor(this.time * this.fps + 0.01); }
  get stretches() { return Math.max(1, Math.floor(this.duration / STRETCH)); }
  get playedThrough() { return this.ready && this.seen.size >= this.stretches && (this.sameSound || SIDES.every((side) => this.heardThrough(side))); }

  // A side that has no sound, or cannot be heard now, is not waited for.
  heardThrough(side) { return !this.sound.buffers[side] || !this.sound.audible || this.muted || this.heard[side].size >= this.stretches; }

  show(visible) {
    for (const video of this.both) video.classList.toggle("on", visible);
  }

  // Resolves when both clips can play, rejects with the side that cannot.
  async load(task) {
    this.pause();
    const mine = ++this.pair;
    this.ready = false;
    this.forget();
    this.fps = task.fps || 25;
    this.sameSound = task.same_sound;
    this.skeleton = task.skeleton;
    this.dropOverlays();
    const loads = SIDES.map((side) => this.loadOne(side, task.clips[side]));
    const [buffers] = await Promise.all([this.sound.load(task.sounds), ...loads]);
    if (mine !== this.pair) throw new DOMException("another pair was loaded", "AbortError");
    this.sound.use(buffers);
    this.ready = true;
    this.applyRate();
    this.onChange();
  }

  loadOne(side, url) {
    const video = this.videos[side];
    return new Promise((resolve, reject) => {
      const done = new AbortController();
      const settle = (how, value) => { done.abort(); how(value); };
      video.addEventListener("canplaythrough", () => settle(resolve), { signal: done.signal });
      video.addEventListener("error", () => settle(reject, side), { signal: done.signal });
      video.src = url;
      video.load();
    });
  }

  unload() {
    this.pause();
    this.pair++;
    this.ready = false;
    this.dropOverlays();
    for (const video of this.both) { video.removeAttribute("src"); video.load(); }
  }

  async play() {
    if (!this.ready) return;
    this.playing = true;
    const mine = ++this.generation;
    const { left, right } = this.videos;
    if (this.waitForData()) return;
    if (this.ended) await this.seekBoth(this.range?.start ?? 0);
    else if (Math.abs(right.currentTime - left.currentTime) > NUDGE_ABOVE) await this.seekBoth(this.time);
    if (mine !== this.generation || this.waitForData()) return;
    this.applyRate();
    this.onChange();
    try {
      await Promise.all(this.both.filter((video) => !video.ended).map((video) => video.play()));
    } catch (error) {
      if (mine === this.generation && error.name !== "AbortError") this.pause();
      return;
    }
    if (mine === this.generation) this.keepInStep(mine);
  }

  // Whether a video has no data to begin with: then none begins, and `resume` tries again.
  waitForData() {
    const starved = this.both.filter((video) => !video.ended && video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA);
    for (const video of starved) this.stalled.add(video);
    if (starved.length) this.onChange();
    return starved.length > 0;
  }

  pause() {
    this.playing = false;
    this.halt();
    this.onChange();
  }

  // Stops pictures and sound and overtakes whatever was under way, without forgetting whether to play.
  halt() {
    this.stalled.clear();
    this.lastSeen = null;
    for (const video of this.all) video.pause();
    this.sound.stop();
    return ++this.generation;
  }

  toggle() { return this.playing ? this.pause() : this.play(); }

  async restart() {
    if (!this.ready) return;
    this.replays++;
    const mine = this.halt();
    await this.seekBoth(this.range?.start ?? 0);
    if (mine === this.generation) await this.play();
  }

  async seek(time) {
    if (!this.ready) return;
    this.seeks++;
    const mine = this.halt();
    await this.seekBoth(Math.min(Math.max(time, 0), this.duration));
    this.followOverlays();
    this.onChange();
    if (this.playing && mine === this.generation) await this.play();
  }

  async step(frames) {
    if (!this.ready) return;
    this.pause();
    const last = Math.max(0, Math.round(this.duration * this.fps) - 1);
    const frame = Math.min(last, Math.max(0, Math.min(last, this.frame) + frames));
    await this.seek((frame + 0.5) / this.fps); // the middle of a frame is never the one beside it
  }

  changeRate(steps) {
    const index = RATES.indexOf(this.rate) + steps;
    this.rate = RATES[Math.min(RATES.length - 1, Math.max(0, index))];
    this.applyRate();
    this.onChange();
  }

  // The range that is looped in both clips: from A to B, from A to the end, or from the beginning to B.
  setRange(edge) {
    const now = this.time;
    const { start, end } = this.range ?? { start: 0, end: this.duration };
    const range = edge === "start" ? { start: now, end: end > now ? end : this.duration } : { start: start < now ? start : 0, end: now };
    this.range = range.end - range.start > 1 / this.fps ? range : null;
    this.onChange();
  }

  clearRange() {
    this.range = null;
    this.onChange();
  }

  setLooping(on) {
    this.looping = on;
    this.onChange();
    if (on && this.playing && this.ended) this.loop();
  }

  hear(side) {
    this.sounding = side;
    this.onChange();
  }

  mute(muted) {
    this.muted = muted;
    this.sound.mute(muted);
    this.onChange();
  }

  applyRate() {
    for (const video of this.all) video.playbackRate = this.rate;
  }

  // And the skeletons, if they are there already: nobody waits for those.
  seekBoth(time) {
    const loaded = (this.overlays ?? []).filter((video) => video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA);
    return Promise.all([...this.both, ...loaded].map((video) => {
      const target = Math.min(time, video.duration || 0);
      if (Math.abs(video.currentTime - target) < 1e-4 && !video.seeking && !video.ended) return null;
      return new Promise((resolve) => {
        video.addEventListener("seeked", resolve, { once: true });
        video.currentTime = target;
      });
    }));
  }

  // The driving skeleton over both clips.
  showSkeleton(wanted) {
    if (!wanted || !this.skeleton) return this.dropOverlays();
    this.overlays ??= SIDES.map((side) => Object.assign(this.makeVideo(side, "skeleton"), { src: this.skeleton }));
    for (const video of this.overlays) video.addEventListener("loadeddata", () => this.followOverlays(), { once: true });
  }

  dropOverlays() {
    for (const video of this.overlays ?? []) { video.removeAttribute("src"); video.remove(); }
    this.overlays = null;
  }

  // While the clips stand still the skeletons are set to the same frame, else they run along.
  followOverlays() {
    for (const video of this.overlays ?? []) {
      if (this.running && this.time < video.duration) {
        if (video.paused) video.play().catch(() => {}); // stopped again at once, or not there yet: tried at the next frame
        this.follower(video).follow(this.time, this.rate);
      } else if (!video.seeking && Math.abs(video.currentTime - this.time) > 0.5 / this.fps) video.currentTime = Math.min(this.time, video.duration || 0);
    }
  }

  get running() { return this.playing && !this.stalled.size && this.both.some((video) => !video.paused && !video.ended); }

  follower(video) {
    if (!this.followers.has(video)) this.followers.set(video, new Follower(video));
    return this.followers.get(video);
  }

  // At each frame: lays the sound under the picture and brings a video that has slipped back.
  keepInStep(mine) {
    const { left, right } = this.videos;
    const onFrame = (video, call) => {
      const shown = video.requestVideoFrameCallback && !video.ended && !video.paused;
      if (shown) video.requestVideoFrameCallback(call);
      else requestAnimationFrame(call);
    };
    this.followers.clear();
    this.follower(right);
    const check = () => {
      if (mine !== this.generation || this.ended) return;
      this.noteSeen();
      if (this.range && this.time >= this.range.end - 0.5 / this.fps) return this.loop();
      this.sound.follow(this.sounding, this.time, this.rate);
      this.followOverlays();
      if (!left.ended) this.follower(right).follow(left.currentTime, this.rate);
      this.onChange();
      onFrame(left.ended ? right : left, check);
    };
    onFrame(left.ended ? right : left, check);
  }

  // Marks what was played since the last look, so that frames a busy machine drops do not count as unseen.
  noteSeen() {
    const now = this.time;
    const from = this.lastSeen === null || now - this.lastSeen > 2 * STRETCH || now < this.lastSeen ? now : this.lastSeen;
    const last = this.stretches - 1;
    for (let each = Math.floor(from / STRETCH); each <= Math.floor(now / STRETCH); each++) {
      this.seen.add(Math.min(each, last));
      if (this.sound.audible && !this.muted) this.heard[this.sounding].add(Math.min(each, last));
    }
    this.lastSeen = now;
  }

  listen(side) {
    const video = this.videos[side];
    const on = (name, handle) => video.addEventListener(name, handle, { signal: this.listening.signal });
    const stop = () => {
      if (this.since[side] !== null) this.watched[side] += (performance.now() - this.since[side]) / 1000;
      this.since[side] = null;
    };
    on("playing", () => {
      this.since[side] ??= performance.now();
      this.resume(video);
    });
    for (const name of ["pause", "ended", "seeking", "waiting"]) on(name, stop);
    on("canplay", () => this.resume(video));
    on("waiting", () => {
      // One that waits for data holds the other and the sound: they stay in step.
      if (!this.playing || video.seeking || video.ended) return;
      this.stalled.add(video);
      this.sound.stop();
      this.generation++;
      for (const other of this.all) if (!this.stalled.has(other)) other.pause();
      this.onChange();
    });
    on("ended", () => {
      if (!this.ended) return;
      this.noteSeen();
      if (this.looping || this.range || !this.playedThrough) this.loop();
      else this.pause();
    });
  }

  resume(video) {
    if (this.stalled.delete(video) && !this.stalled.size && this.playing) this.play();
  }

  async loop() {
    for (const video of this.all) video.pause();
    this.sound.stop();
    const mine = ++this.generation;
    const other = this.sounding === "left" ? "right" : "left";
    // Two sounds that differ are heard one after the other, each alone, before anybody votes.
    if (!this.sameSound && this.heardThrough(this.sounding) && !this.heardThrough(other)) this.sounding = other;
    this.onChange();
    await new Promise((resolve) => setTimeout(resolve, PAUSE_BETWEEN_LOOPS));
    if (this.playing && mine === this.generation) await this.restart();
  }

  // Seconds played of each clip, the running stretch included.
  watchedNow(side) {
    const running = this.since[side] === null ? 0 : (performance.now() - this.since[side]) / 1000;
    return this.watched[side] + running;
  }

  destroy() {
    this.unload();
    this.sound.stop();
    this.listening.abort();
    for (const video of this.both) video.remove();
  }
}
