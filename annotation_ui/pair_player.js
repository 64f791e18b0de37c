// Plays two videos in step, with the sound of one of them. The left video is the clock.

const RATES = [0.25, 0.5, 0.75, 1];
const SEEK_ABOVE = 0.25; // seconds of drift that a rate change would take too long to heal
const NUDGE_ABOVE = 0.012; // seconds of drift that are left alone
const NUDGE = 0.25; // how much faster or slower the right video runs while it is brought back
const REST = 250; // milliseconds that a rate change needs until it shows
const PAUSE_BETWEEN_LOOPS = 350; // milliseconds

class PairPlayer {
  // onChange() is called whenever something that a page may show has changed.
  constructor(left, right, onChange) {
    this.videos = { left, right };
    this.sound = new Soundtrack();
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

  get both() { return [this.videos.left, this.videos.right]; }
  get duration() { return Math.max(...this.both.map((video) => video.duration || 0)); }
  get time() { return this.videos.left.ended ? this.videos.right.currentTime : this.videos.left.currentTime; }
  get ended() { return this.both.every((video) => video.ended); }
  get frame() { return Math.floor(this.time * this.fps + 0.01); }

  // Resolves when both clips can play, rejects with the side that cannot.
  async load(clips, sounds, fps) {
    this.pause();
    const mine = ++this.pair;
    this.ready = false;
    this.fps = fps;
    this.sounding = "left";
    this.watched = { left: 0, right: 0 };
    const sides = ["left", "right"];
    const [buffers] = await Promise.all([this.sound.load(sounds), ...sides.map((side) => this.loadOne(side, clips[side]))]);
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
    for (const video of this.both) { video.removeAttribute("src"); video.load(); }
  }

  async play() {
    if (!this.ready) return;
    this.playing = true;
    const mine = ++this.generation;
    const { left, right } = this.videos;
    if (this.ended) await this.seekBoth(0);
    else if (Math.abs(right.currentTime - left.currentTime) > NUDGE_ABOVE) await this.seekBoth(this.time);
    if (mine !== this.generation) return;
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

  pause() {
    this.playing = false;
    this.halt();
    this.onChange();
  }

  // Stops pictures and sound and overtakes whatever was under way, without forgetting whether to play.
  halt() {
    this.stalled.clear();
    for (const video of this.both) video.pause();
    this.sound.stop();
    return ++this.generation;
  }

  toggle() { return this.playing ? this.pause() : this.play(); }

  async restart() {
    if (!this.ready) return;
    const mine = this.halt();
    await this.seekBoth(0);
    if (mine === this.generation) await this.play();
  }

  async seek(time) {
    if (!this.ready) return;
    const mine = this.halt();
    await this.seekBoth(Math.min(Math.max(time, 0), this.duration));
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

  // At each frame: lays the sound under the picture and brings a video that has slipped back.
  keepInStep(mine) {
    const { left, right } = this.videos;
    const onFrame = (video, call) => {
      const shown = video.requestVideoFrameCallback && !video.ended && !video.paused;
      if (shown) video.requestVideoFrameCallback(call);
      else requestAnimationFrame(call);
    };
    let restUntil = performance.now() + REST;
    let healedAt = null;
    const check = (now) => {
      if (mine !== this.generation || this.ended) return;
      this.sound.follow(this.sounding, this.time, this.rate);
      if (healedAt !== null && performance.now() >= healedAt) {
        right.playbackRate = this.rate;
        healedAt = null;
        restUntil = performance.now() + REST;
      }
      const drift = right.currentTime - left.currentTime;
      const running = !left.ended && !right.ended && !right.seeking;
      // One measured step instead of constant steering: a rate change takes effect late and would overshoot.
      if (running && healedAt === null && performance.now() > restUntil && Math.abs(drift) > NUDGE_ABOVE) {
        restUntil = performance.now() + REST;
        if (Math.abs(drift) > SEEK_ABOVE) right.currentTime = left.currentTime;
        else {
          right.playbackRate = this.rate * (1 - Math.sign(drift) * NUDGE);
          healedAt = performance.now() + (1000 * Math.abs(drift)) / (NUDGE * this.rate);
        }
      }
      this.onChange();
      onFrame(left.ended ? right : left, check);
    };
    onFrame(left.ended ? right : left, check);
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
      for (const other of this.both) if (!this.stalled.has(other)) other.pause();
    });
    on("ended", () => { if (this.ended) this.loop(); });
  }

  resume(video) {
    if (this.stalled.delete(video) && !this.stalled.size && this.playing) this.play();
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
    this.sound.destroy();
    this.listening.abort();
  }
}
