// What was said before, and elsewhere: pages of the history, fetched one at a time.

import { button } from "./bubble.js";
import { history } from "./stream.js";

const PAGE = 50;
const PAGES_TO_PLACE = 6;
const LONGEST_WAIT_MS = 30_000;
const SILENT_TRIES = 3;

export class Past {
  #user;
  #log;
  #t;
  #parts; // {older, beginning, notice}
  #more = false;
  #loaded = false;
  #fetching = null;
  #goingBack = false;
  #wake = null;

  constructor(user, log, t, parts) {
    [this.#user, this.#log, this.#t, this.#parts] = [user, log, t, parts];
    parts.older.addEventListener("click", () => this.older());
  }

  /** Show the newest page, and as many older ones as `restored` needs to find its place. Tries until it can. */
  async begin(restored) {
    for (let tries = 0; !this.#loaded; tries += 1) {
      try {
        await this.#fetch(false);
        this.#loaded = true;
      } catch {
        if (tries >= SILENT_TRIES) this.#complain(() => this.#wake?.());
        const milliseconds = Math.min(LONGEST_WAIT_MS, 500 * 2 ** tries) * (0.5 + Math.random() / 2);
        await new Promise((resolve) => {
          this.#wake = resolve;
          setTimeout(resolve, milliseconds);
        });
      }
    }
    this.#complain(null);
    for (let page = 0; !restored() && this.#more && page < PAGES_TO_PLACE; page += 1) {
      await this.#fetch(true).catch(() => {});
    }
  }

  /** What came since, from wherever. Quiet: whoever cares asks again. */
  async sync() {
    this.#wake?.();
    if (!this.#loaded) return;
    try {
      for (const { text } of await this.#fetch(false)) this.#log.announce(text);
    } catch {
      // The next one may do better.
    }
  }

  async older() {
    if (!this.#loaded || !this.#more || this.#goingBack) return;
    this.#goingBack = true;
    try {
      await this.#fetch(true);
      this.#complain(null);
    } catch {
      this.#complain(() => this.older());
    } finally {
      this.#goingBack = false;
    }
  }

  async #fetch(older) {
    while (this.#fetching) await this.#fetching.catch(() => {});
    this.#fetching = this.#page(older);
    try {
      return await this.#fetching;
    } finally {
      this.#fetching = null;
    }
  }

  async #page(older) {
    const before = older ? this.#log.oldest : null;
    const page = await history(this.#user, { limit: PAGE, before: before?.at.toISOString() ?? null });
    const replies = this.#log.merge(page.messages, { older });
    const oldest = this.#log.oldest?.id;
    if (oldest === page.messages[0]?.message_id) this.#more = page.more && oldest !== before?.id;
    this.#parts.older.hidden = !this.#more;
    this.#parts.beginning.hidden = this.#more;
    return replies;
  }

  /** Say that it failed, with a button for `again`; null takes that back. */
  #complain(again) {
    const { notice } = this.#parts;
    notice.hidden = !again;
    notice.textContent = again ? this.#t.history_failed : "";
    if (again) notice.append(" ", button(this.#t.retry, again));
  }
}
