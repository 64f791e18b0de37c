// The sound of two clips, one heard at a time, placed to the sample on the videos' time.
//
// A video that plays its own sound starts tens of milliseconds later than a muted one, and the delay
// differs from start to start. So both videos stay muted and start alike, and the sound is laid under them.

const REALIGN_ABOVE = 0.03; // seconds between sound and picture that are worth a tiny gap

class Soundtrack {
  // context: an AudioContext; pages share one, browsers allow few.
  constructor(context) {
    this.context = context;
    this.volume = this.context.createGain();
    this.volume.connect(this.context.destination);
    this.buffers = { left: null, right: null };
    this.source = null; // what sounds now
  }

  // Fetches both sounds; a clip without sound gets null.
  async load(urls) {
    const [left, right] = await Promise.all([this.fetch(urls.left), this.fetch(urls.right)]);
    return { left, right };
  }

  async fetch(url) {
    const response = await fetch(url);
    return response.ok ? this.context.decodeAudioData(await response.arrayBuffer()) : null;
  }

  use(buffers) {
    this.stop();
    this.buffers = buffers;
  }

  mute(muted) { this.volume.gain.value = muted ? 0 : 1; }

  // Keeps the sound of one side under the picture; call it at every frame. Does little when all is well.
  follow(side, time, rate) {
    if (this.context.state !== "running") return;
    const buffer = this.buffers[side];
    const right = this.source?.buffer === buffer && this.rate === rate;
    if (right && Math.abs(this.position - time) < REALIGN_ABOVE) return;
    this.stop();
    if (!buffer) return;
    // What is started now is heard a little later, when the picture is as much further.
    const offset = time + this.latency * rate;
    if (offset >= buffer.duration) return;
    this.source = new AudioBufferSourceNode(this.context, { buffer, playbackRate: rate });
    this.source.connect(this.volume);
    this.startedAt = this.context.currentTime;
    this.startedFrom = time;
    this.rate = rate;
    this.source.start(0, offset);
  }

  get latency() { return this.context.outputLatency || this.context.baseLatency || 0; }

  // The time in the clip that is heard now.
  get position() { return this.startedFrom + (this.context.currentTime - this.startedAt) * this.rate; }

  stop() {
    this.source?.stop();
    this.source?.disconnect();
    this.source = null;
  }

  // Browsers keep sound back until a key or a click.
  get audible() { return this.context.state === "running"; }
}
