// Getting messages answered: each has its own stream, is tried again until its answer is here, and is
// kept in the browser until then. The same Idempotency-Key every time: the server answers it once.

import { Draft, Refused, ask } from "./stream.js";
import { waiting } from "./store.js";

/** Browsers open six connections to a host; history and the other tab need some of them. */
const STREAMS = 3;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;

export class Sender {
  #user;
  #on;
  #jobs = new Map(); // key -> {record, draft, controller, wake, tries, since}

  /** `on`: {delta(job), done(job, reply), state(job, name, status), quiet()} */
  constructor(user, on) {
    this.#user = user;
    this.#on = on;
  }

  has(key) {
    return this.#jobs.has(key);
  }

  /** Answers that may still come into being here. */
  get drafts() {
    return [...this.#jobs.values()].map((job) => job.draft);
  }

  send(record) {
    if (this.#jobs.has(record.key)) return;
    const job = { record, draft: new Draft(record.seen?.turn, record.seen?.text), tries: 0, since: null };
    this.#jobs.set(record.key, job);
    this.#run(job);
  }

  drop(key) {
    const job = this.#jobs.get(key);
    this.#jobs.delete(key);
    job?.controller?.abort();
    job?.wake?.();
  }

  /** Try what waits for its next try now: the network is back, or somebody looks at the page again. */
  hurry() {
    for (const job of this.#jobs.values()) {
      if (job.parked) continue;
      job.tries = 0;
      job.wake?.();
    }
  }

  /** Before the page goes: remember how far each answer was read. */
  leave() {
    for (const { record, draft } of this.#jobs.values()) {
      if (draft.turn !== null && waiting.has(record.key)) {
        waiting.keep({ ...record, seen: { turn: draft.turn, text: draft.text } });
      }
    }
  }

  async #run(job) {
    while (this.#jobs.get(job.record.key) === job) {
      this.#makeRoom();
      job.controller = new AbortController();
      job.since = performance.now();
      const read = job.draft.length;
      try {
        const reply = await ask({
          key: job.record.key,
          text: job.record.text,
          user: this.#user,
          draft: job.draft,
          signal: job.controller.signal,
          onDelta: () => {
            this.#on.state(job, "waiting");
            this.#on.delta(job);
          },
        });
        this.#jobs.delete(job.record.key);
        this.#on.done(job, reply);
        this.#wakeParked();
        return;
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (this.#jobs.get(job.record.key) !== job) return;
        if (job.draft.length !== read) job.tries = 0; // it went on a little: that is no dead server
        await this.#pause(job, error);
      }
    }
  }

  /** After a try that failed: give up, or wait before the next one. */
  async #pause(job, error) {
    const parked = job.parked;
    job.since = null;
    if (!parked && !error.retryable) {
      this.#jobs.delete(job.record.key);
      this.#on.state(job, "failed", error.status);
      this.#wakeParked();
      return;
    }
    if (!parked) this.#on.state(job, job.draft.turn === null ? "retrying" : "reconnecting");
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** job.tries++);
    const milliseconds = parked ? LONGEST_WAIT_MS : Math.max(error.retryAfterMs, longest * (0.5 + Math.random() / 2));
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      job.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    job.wake = null;
    job.parked = false;
  }

  /** Many messages in a row: the oldest stream makes way. Its message is asked for again afterwards. */
  #makeRoom() {
    const open = [...this.#jobs.values()].filter((job) => job.since !== null).sort((a, b) => a.since - b.since);
    for (const job of open.slice(0, Math.max(0, open.length - STREAMS + 1))) {
      job.parked = true;
      job.controller.abort();
    }
  }

  #wakeParked() {
    for (const job of this.#jobs.values()) {
      if (job.parked && job.wake) return job.wake();
    }
    return undefined;
  }
}
