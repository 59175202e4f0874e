// Getting messages answered: each has its own stream, and is tried again until its answer is here. The
// same Idempotency-Key every time: the server answers it once.

import { Draft, Refused, ask } from "./stream.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;

export class Sender {
  #user;
  #on;
  #jobs = new Map(); // key -> {record, draft, controller, wake, tries}

  /** `on`: {delta(job), done(job, reply), late(job, name), failed(job, status)} */
  constructor(user, on) {
    this.#user = user;
    this.#on = on;
  }

  has(key) {
    return this.#jobs.has(key);
  }

  get jobs() {
    return [...this.#jobs.values()];
  }

  send(record) {
    if (this.has(record.key)) return;
    const job = { record, draft: new Draft(), late: false, tries: 0, controller: null, wake: null };
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
    for (const job of this.jobs) {
      job.tries = 0;
      job.wake?.();
    }
  }

  async #run(job) {
    const { key, text } = job.record;
    while (this.#jobs.get(key) === job) {
      job.controller = new AbortController();
      const onDelta = () => {
        [job.late, job.tries] = [false, 0];
        this.#on.delta(job);
      };
      try {
        const { user, draft, signal } = { user: this.#user, draft: job.draft, signal: job.controller.signal };
        const reply = await ask({ key, text, user, draft, signal, onDelta });
        this.#jobs.delete(key);
        return this.#on.done(job, reply);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (this.#jobs.get(key) !== job) return undefined;
        if (!error.retryable) {
          this.#jobs.delete(key);
          return this.#on.failed(job, error.status);
        }
        job.late = true;
        this.#on.late(job, job.draft.turn === null ? "retrying" : "reconnecting");
        await this.#pause(job, error.retryAfterMs);
      }
    }
    return undefined;
  }

  async #pause(job, least) {
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** job.tries++);
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(least, longest * (0.5 + Math.random() / 2)));
      job.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    job.wake = null;
  }
}
