// A few beeps, each with a flash: does the annotator hear them, and in time?

const BEEP_SECONDS = 0.08;
const BETWEEN_BEEPS = 0.75; // seconds

class SoundCheck {
  constructor(dialog, context, send) {
    this.dialog = dialog;
    this.context = context;
    this.send = send; // ({played, heard, together}) -> promise
    this.lamp = dialog.querySelector(".lamp");
    this.said = dialog.querySelector(".said");
    this.played = 0;
    this.heard = null;
  }

  open() {
    this.again();
    this.dialog.showModal();
  }

  again() {
    this.played = 0;
    this.heard = null;
    this.ask("start");
  }

  ask(step) {
    this.step = step;
    for (const part of this.dialog.querySelectorAll("[data-step]")) part.hidden = part.dataset.step !== step;
    this.dialog.querySelector(`[data-step=${step}] button`)?.focus();
  }

  async play() {
    await this.context.resume();
    this.said.textContent = "";
    this.ask("listen");
    this.played = 2 + Math.floor(Math.random() * 4);
    const start = this.context.currentTime + 0.4;
    for (let each = 0; each < this.played; each++) {
      const at = start + each * BETWEEN_BEEPS;
      const tone = new OscillatorNode(this.context, { frequency: 880 });
      const gain = new GainNode(this.context, { gain: 0.3 });
      tone.connect(gain).connect(this.context.destination);
      tone.start(at);
      tone.stop(at + BEEP_SECONDS);
      this.flash(at);
    }
    const seconds = 0.6 + this.played * BETWEEN_BEEPS;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    this.ask("count");
  }

  flash(at) {
    const wait = 1000 * (at - this.context.currentTime + (this.context.baseLatency || 0));
    setTimeout(() => this.lamp.classList.add("lit"), wait);
    setTimeout(() => this.lamp.classList.remove("lit"), wait + 1000 * BEEP_SECONDS);
  }

  count(number) {
    this.heard = number;
    this.ask("together");
  }

  async finish(together) {
    try {
      await this.send({ played: this.played, heard: this.heard, together });
      this.dialog.close();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.again();
      this.said.textContent = error.message;
    }
  }

  // Returns whether the key was ours.
  pressed(key) {
    if (this.step === "count" && "0123456789".includes(key)) this.count(Number(key));
    else if (this.step === "together" && key.toLowerCase() === "y") this.finish(true);
    else if (this.step === "together" && key.toLowerCase() === "n") this.finish(false);
    else return false;
    return true;
  }

  clicked(button) {
    const { check, value } = button.dataset;
    if (check === "play") this.play();
    else if (check === "count") this.count(Number(value));
    else if (check === "together") this.finish(value === "yes");
  }
}
