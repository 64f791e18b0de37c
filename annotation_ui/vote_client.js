// Talks to the server. A ballot gets its ids here, once, and is sent again until the server has it.

const RETRY_MILLISECONDS = [500, 1000, 2000, 5000];

class Refused extends Error {} // the server has understood and says no

class VoteClient {
  // onWaiting(message) is called while the server cannot be reached.
  constructor(api, annotator, onWaiting) {
    this.api = api;
    this.annotator = annotator;
    this.onWaiting = onWaiting;
    this.kept = `prefkit.unsent.${annotator}`;
    this.closed = false;
  }

  task() {
    return this.ask(`task?annotator=${encodeURIComponent(this.annotator)}`, {});
  }

  // Resolves when the votes are committed. Until then the ballot outlives a reload of the page.
  async vote(ballot) {
    const votes = ballot.votes.map((vote) => ({ ...vote, vote_id: VoteClient.newId() }));
    const body = JSON.stringify({ ...ballot, votes, annotator: this.annotator });
    localStorage.setItem(this.kept, body);
    return this.send(body);
  }

  // Sends what an earlier page could not; resolves to null where there is nothing.
  async sendKept() {
    const body = localStorage.getItem(this.kept);
    return body === null ? null : this.send(body);
  }

  async send(body) {
    try {
      return await this.post("votes", body);
    } finally {
      // Stored or refused: either way it must not be sent again.
      if (!this.closed && localStorage.getItem(this.kept) === body) localStorage.removeItem(this.kept);
    }
  }

  undo(comparisonId) {
    return this.post("undo", JSON.stringify({ annotator: this.annotator, comparison_id: comparisonId }));
  }

  post(path, body) {
    return this.ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  }

  async ask(path, options) {
    for (let attempt = 0; ; attempt++) {
      let response = null;
      try {
        response = await fetch(`${this.api}/${path}`, options);
        if (response.ok) return await response.json();
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // TypeError: no connection
      }
      if (response && response.status < 500) {
        throw new Refused((await response.json()).error ?? `the server answered ${response.status}`);
      }
      if (this.closed) throw new DOMException("the page was left", "AbortError");
      const wait = RETRY_MILLISECONDS[Math.min(attempt, RETRY_MILLISECONDS.length - 1)];
      this.onWaiting();
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }

  // 32 hex digits; crypto.randomUUID is missing on pages served without TLS.
  static newId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
}
