// Plays two videos in step. The one that is heard is the clock; the other is muted and follows it.

const RATES = [0.25, 0.5, 0.75, 1];
const SEEK_ABOVE = 0.2; // seconds of drift that a rate change would take too long to heal
const NUDGE_ABOVE = 0.006; // seconds of drift that are left alone
const PAUSE_BETWEEN_LOOPS = 350; // milliseconds

class PairPlayer {
  // onChange() is called whenever something that a page may show has changed.
  constructor(left, right, onChange) {
    this.videos = { left, right };
    this.onChange = onChange;
    this.sounding = "left";
    this.muted = false;
    this.rate = 1;
    this.fps = 25;
    this.playing = false; // what the annotator wants; a video may still be waiting for data
    this.stalled = new Set();
    this.watched = { left: 0, right: 0 }; // seconds played
    this.since = { left: null, right: null };
    this.ready = false;
    this.pair = 0; // counts loads, to tell what belongs to an earlier pair
    this.generation = 0; // counts starts, stops and seeks, to tell what a later one has overtaken
    this.listening = new AbortController();
    for (const side of ["left", "right"]) this.listen(side);
  }

  get clock() { return this.videos[this.sounding]; }
  get follower() { return this.videos[this.sounding === "left" ? "right" : "left"]; }
  get both() { return [this.videos.left, this.videos.right]; }
  get duration() { return Math.max(...this.both.map((video) => video.duration || 0)); }
  get time() { return this.clock.ended ? this.follower.currentTime : this.clock.currentTime; }
  get ended() { return this.both.every((video) => video.ended); }

  // Resolves when both clips can play, rejects with the side that cannot.
  async load(urls, fps) {
    this.pause();
    const mine = ++this.pair;
    this.ready = false;
    this.fps = fps;
    this.sounding = "left";
    this.stalled.clear();
    this.watched = { left: 0, right: 0 };
    this.applySound();
    await Promise.all(["left", "right"].map((side) => this.loadOne(side, urls[side])));
    if (mine !== this.pair) throw new DOMException("another pair was loaded", "AbortError");
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
    for (const video of this.both) { video.removeAttribute("src"); video.load(); }
  }

  async play() {
    if (!this.ready) return;
    this.playing = true;
    const mine = ++this.generation;
    if (this.ended) await this.seekBoth(0);
    else if (Math.abs(this.follower.currentTime - this.clock.currentTime) > 0.5 / this.fps) await this.seekBoth(this.time);
    if (mine !== this.generation) return;
    this.applyRate();
    this.onChange();
    try {
      await Promise.all(this.both.filter((video) => !video.ended).map((video) => video.play()));
    } catch (error) {
      if (mine !== this.generation || error.name === "AbortError") return;
      this.pause(); // browsers refuse sound before the first key or click
      return;
    }
    if (mine === this.generation) this.follow(mine);
  }

  pause() {
    this.playing = false;
    this.generation++;
    this.stalled.clear();
    for (const video of this.both) video.pause();
    this.onChange();
  }

  toggle() { return this.playing ? this.pause() : this.play(); }

  async restart() {
    if (!this.ready) return;
    for (const video of this.both) video.pause();
    const mine = ++this.generation;
    await this.seekBoth(0);
    if (mine === this.generation) await this.play();
  }

  async seek(time) {
    if (!this.ready) return;
    const on = this.playing;
    for (const video of this.both) video.pause();
    const mine = ++this.generation;
    await this.seekBoth(Math.min(Math.max(time, 0), this.duration));
    if (on && mine === this.generation) await this.play();
  }

  async step(frames) {
    if (!this.ready) return;
    if (this.playing) this.pause();
    const last = Math.max(0, Math.round(this.duration * this.fps) - 1);
    const frame = Math.min(last, Math.max(0, this.frame + frames));
    await this.seek((frame + 0.5) / this.fps); // the middle of a frame is never the one beside it
  }

  get frame() { return Math.floor(this.time * this.fps + 0.01); }

  changeRate(steps) {
    const index = RATES.indexOf(this.rate) + steps;
    this.rate = RATES[Math.min(RATES.length - 1, Math.max(0, index))];
    this.applyRate();
    this.onChange();
  }

  hear(side) {
    this.sounding = side;
    this.applySound();
    this.applyRate();
    this.onChange();
    if (this.playing) this.play();
  }

  mute(muted) {
    this.muted = muted;
    this.applySound();
    this.onChange();
  }

  applySound() {
    this.clock.muted = this.muted;
    this.follower.muted = true;
  }

  applyRate() {
    for (const video of this.both) video.playbackRate = this.rate;
  }

  seekBoth(time) {
    return Promise.all(this.both.map((video) => {
      const target = Math.min(time, video.duration || 0);
      if (Math.abs(video.currentTime - target) < 1e-4 && !video.seeking && !video.ended) return null;
      return new Promise((resolve) => {
        video.addEventListener("seeked", resolve, { once: true });
        video.currentTime = target;
      });
    }));
  }

  // At each frame of the follower: a little drift is healed by its rate, a lot by a seek.
  follow(mine) {
    const check = () => {
      if (mine !== this.generation) return;
      const { clock, follower } = this;
      if (clock.ended || follower.ended || clock.paused) follower.playbackRate = this.rate;
      else {
        const drift = follower.currentTime - clock.currentTime;
        if (Math.abs(drift) > SEEK_ABOVE) follower.currentTime = clock.currentTime;
        else if (Math.abs(drift) < NUDGE_ABOVE) follower.playbackRate = this.rate;
        else follower.playbackRate = this.rate * Math.min(2, Math.max(0.4, 1 - 12 * drift));
      }
      this.onChange();
      next();
    };
    const next = () => {
      const { follower } = this;
      if (follower.requestVideoFrameCallback && !follower.ended && !follower.paused) follower.requestVideoFrameCallback(check);
      else requestAnimationFrame(check);
    };
    next();
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
      // One that waits for data holds the other: they stay in step.
      if (!this.playing || video.seeking || video.ended) return;
      this.stalled.add(video);
      for (const other of this.both) if (!this.stalled.has(other)) other.pause();
    });
    on("ended", () => { if (this.ended) this.loop(); });
  }

  resume(video) {
    if (!this.stalled.delete(video) || this.stalled.size || !this.playing) return;
    this.play();
  }

  async loop() {
    const mine = this.generation;
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
    this.listening.abort();
  }
}
