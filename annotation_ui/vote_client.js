// Talks to the server. A ballot gets its ids here, once, and is sent again until the server has it.

const RETRY_MILLISECONDS = [500, 1000, 2000, 5000];

class Refused extends Error {} // the server has understood and says no

class VoteClient {
  // on: {saved(ballot), refused(error, ballot), waiting()}
  constructor(api, annotator, session, on) {
    this.api = api;
    this.session = session;
    this.on = on;
    this.kept = `prefkit.unsent.${annotator}`;
    this.closed = false;
    this.sending = null;
    this.unsent = JSON.parse(localStorage.getItem(this.kept) ?? "[]"); // what an earlier page could not send
  }

  task() { return this.ask("task", {}); }
  undo(comparisonId) { return this.post("undo", { comparison_id: comparisonId }); }
  soundCheck(result) { return this.post("sound-check", result); }

  // Takes a ballot over: it outlives a reload of the page, and on.saved says when its votes are committed.
  vote(ballot) {
    const votes = ballot.votes.map((vote) => ({ ...vote, vote_id: VoteClient.newId() }));
    this.unsent.push({ ...ballot, votes });
    this.keep();
    this.drain();
  }

  // Sends all that is left, in order; resolves when nothing is.
  drain() {
    this.sending ??= this.sendAll().finally(() => { this.sending = null; });
    return this.sending;
  }

  async sendAll() {
    while (this.unsent.length && !this.closed) {
      const ballot = this.unsent[0];
      let refusal = null;
      try {
        await this.post("votes", ballot);
      } catch (error) {
        if (!(error instanceof Refused)) { if (error.name === "AbortError") return; throw error; }
        refusal = error;
      }
      // Stored or refused: either way it must not be sent again.
      this.unsent.shift();
      this.keep();
      if (refusal) this.on.refused(refusal, ballot);
      else this.on.saved(ballot);
    }
  }

  keep() {
    if (this.closed) return;
    if (this.unsent.length) localStorage.setItem(this.kept, JSON.stringify(this.unsent));
    else localStorage.removeItem(this.kept);
  }

  post(path, body) {
    return this.ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  }

  async ask(path, options) {
    const headers = { ...options.headers, Authorization: `Bearer ${this.session}` };
    for (let attempt = 0; ; attempt++) {
      let response = null;
      try {
        response = await fetch(`${this.api}/${path}`, { ...options, headers });
        if (response.ok) return await response.json();
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // TypeError: no connection
      }
      if (response && response.status < 500) {
        throw new Refused((await response.json()).error ?? `the server answered ${response.status}`);
      }
      if (this.closed) throw new DOMException("the page was left", "AbortError");
      const wait = RETRY_MILLISECONDS[Math.min(attempt, RETRY_MILLISECONDS.length - 1)];
      this.on.waiting();
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  // 32 hex digits; crypto.randomUUID is missing on pages served without TLS.
  static newId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}
