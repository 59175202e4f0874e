// Reading an answer that is still being written: server-sent events over fetch, deltas by code point.

/** The server says something at least every 15 s; a connection silent for longer is dead. */
const SILENCE_MS = 40_000;

/** What the server, or the way to it, said instead of an answer. */
export class Refused extends Error {
  constructor(status, retryable, retryAfterMs = 0) {
    super(`refused: ${status}`);
    this.status = status;
    this.retryable = retryable;
    this.retryAfterMs = retryAfterMs;
  }
}

/** Text under construction. Offsets count code points, a JavaScript string counts UTF-16 units. */
export class Draft {
  turn = null;
  text = "";
  length = 0;

  apply({ turn_id: turn, offset, text }) {
    if (turn !== this.turn) [this.turn, this.text, this.length] = [turn, "", 0];
    if (offset < this.length) this.text = this.text.slice(0, unitsOf(this.text, offset));
    else if (offset > this.length) {
      [this.turn, this.text, this.length] = [null, "", 0];
      throw new Refused(0, true); // a gap: ask again, from the beginning
    }
    this.text += text;
    this.length = offset + codePoints(text);
  }

  /** For Last-Event-ID: how far we have read. */
  get place() {
    return this.turn === null ? null : `${this.turn}-${this.length}`;
  }
}

export function codePoints(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

function unitsOf(text, points) {
  let units = 0;
  for (const point of text) {
    if (points-- === 0) break;
    units += point.length;
  }
  return units;
}

/** Cuts text that comes in pieces into events (WHATWG HTML, "Server-sent events"). */
export class EventParser {
  #rest = "";
  #name = "";
  #data = [];

  *push(piece) {
    this.#rest += piece;
    // A "\r" at the very end may be half of "\r\n": wait for what follows.
    const whole = /^([^\r\n]*)(\r\n|\n|\r(?=[^]))/;
    for (let line; (line = whole.exec(this.#rest)); ) {
      this.#rest = this.#rest.slice(line[0].length);
      const event = this.#line(line[1]);
      if (event) yield event;
    }
  }

  #line(line) {
    if (line === "") {
      const event = this.#data.length ? { name: this.#name || "message", data: this.#data.join("\n") } : null;
      [this.#name, this.#data] = ["", []];
      return event;
    }
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    else if (field === "data") this.#data.push(value);
    return null; // a comment, an id (ours follows from the delta), or something newer than this page
  }
}

/**
 * Send a message and follow its answer. The same key again is the same message: resuming is asking.
 * Calls `onDelta` after each delta was applied to `draft`; returns the whole reply.
 */
export async function ask({ key, text, user, draft, signal, onDelta }) {
  const silence = new AbortController();
  let timer = setTimeout(() => silence.abort(), SILENCE_MS);
  const stop = () => silence.abort();
  let reply = null;
  signal.addEventListener("abort", stop);
  try {
    const response = await fetch("/chat/stream", {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "Idempotency-Key": key,
        ...(draft.place && { "Last-Event-ID": draft.place }),
      },
      body: JSON.stringify({ message: text, user_id: user, coalesce: true }),
      cache: "no-store",
      signal: silence.signal,
    });
    if (!response.ok) throw refusal(response);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    while (reply === null) {
      const { done, value } = await reader.read();
      if (done) throw new Refused(0, true); // cut before the end
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MS);
      for (const { name, data } of parser.push(value)) {
        if (name === "delta") {
          draft.apply(JSON.parse(data));
          onDelta();
        } else if (name === "done") {
          reply = JSON.parse(data);
        } else if (name === "error") {
          const problem = JSON.parse(data);
          throw new Refused(problem.status ?? 0, problem.retryable !== false);
        }
      }
    }
    return reply;
  } catch (error) {
    throw error instanceof Refused ? error : new Refused(0, true); // the network, or nonsense on it
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
    if (reply === null) silence.abort();
  }
}

function refusal(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  const again = [408, 425, 429].includes(response.status) || response.status >= 500;
  return new Refused(response.status, again, Number.isFinite(seconds) ? seconds * 1000 : 0);
}

/** A page of the history, oldest first. */
export async function history(user, { before = null, limit = 50 } = {}) {
  const query = new URLSearchParams({ user_id: user, limit });
  if (before !== null) query.set("before", before);
  const response = await fetch(`/chat/history?${query}`, { cache: "no-store", signal: AbortSignal.timeout(15_000) });
  if (!response.ok) throw refusal(response);
  return response.json();
}
