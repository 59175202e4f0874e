// The conversation on the screen: which messages there are, in which order, and the answer that is being
// written. Who listens instead of looking hears each finished reply once, from the `announced` region.

import { Bubble, compare, element, inOrder } from "./bubble.js";

const SAME_GROUP_MS = 5 * 60_000;
const CLOCKS_APART_MS = 5 * 60_000;
const ANNOUNCED_MS = 20_000;

export class Log {
  #t;
  #reader;
  #list;
  #announced;
  #formats;
  #bubbles = []; // as shown from top to bottom
  #days = new Map();
  #live = null; // {bubble, turn, text}
  #pastTurns = new Set();
  #painting = false;

  constructor(t, reader, list, announced) {
    [this.#t, this.#reader, this.#list, this.#announced] = [t, reader, list, announced];
    const tag = document.documentElement.lang;
    this.#formats = {
      time: new Intl.DateTimeFormat(tag, { timeStyle: "short" }),
      day: new Intl.DateTimeFormat(tag, { month: "long", day: "numeric", weekday: "long" }),
      dayOfYear: new Intl.DateTimeFormat(tag, { dateStyle: "long" }),
      near: new Intl.RelativeTimeFormat(tag, { numeric: "auto" }),
    };
  }

  // --- the history ------------------------------------------------------------------------------

  get oldest() {
    return this.#bubbles.find(({ id }) => id !== null) ?? null;
  }

  get newestId() {
    return this.#bubbles.findLast(({ id }) => id !== null)?.id ?? null;
  }

  get newestReply() {
    return this.#bubbles.findLast(({ role, id }) => role === "assistant" && id !== null) ?? null;
  }

  /** Show a page of the history; returns the replies that were not shown before. */
  merge(messages, { older = false } = {}) {
    const replies = [];
    this.#reader.keepingPlace(() => {
      if (!older) this.#closeHole(messages);
      const known = new Map(this.#bubbles.map((bubble) => [bubble.id, bubble]));
      for (const message of messages) {
        let bubble = known.get(message.message_id) ?? this.#adopt(message);
        if (!bubble) {
          bubble = this.#add({ role: message.role });
          if (message.role === "assistant") replies.push(message);
        }
        bubble.settle(message);
        bubble.fresh = false;
      }
      // Written before this page knew any history: that was later than all of it.
      const newest = messages.at(-1)?.message_id ?? null;
      for (const bubble of this.#bubbles) if (bubble.id === null) bubble.after ??= older ? null : newest;
      this.#arrange();
    });
    return replies;
  }

  /** If so much was said elsewhere that this page does not reach what is shown, start over with the page. */
  #closeHole(messages) {
    const shown = this.#bubbles.filter(({ id, fresh }) => id !== null && !fresh);
    const ids = new Set(messages.map(({ message_id }) => message_id));
    if (!messages.length || !shown.length || shown.some(({ id }) => ids.has(id))) return;
    this.#bubbles = this.#bubbles.filter((bubble) => !shown.includes(bubble));
  }

  /**
   * The bubble that a message is shown as already. The history does not know this page's keys: one's own
   * message is known by its words, and by being later than what was newest when it was written.
   */
  #adopt(message) {
    if (message.role === "assistant") {
      if (!this.#live?.text || !message.text.startsWith(this.#live.text)) return undefined;
      const { bubble, turn } = this.#live;
      this.#pastTurns.add(turn);
      this.#live = null;
      this.announce(message.text);
      return bubble;
    }
    const words = plain(message.text);
    const later = ({ after, at }) =>
      after === null ? new Date(message.created_at) - at > -CLOCKS_APART_MS : compare(after, message.message_id) < 0;
    return this.#bubbles.find((each) => each.role === "user" && each.id === null && plain(each.text) === words && later(each));
  }

  // --- one's own messages -----------------------------------------------------------------------

  own({ key, text, at, after }) {
    if (this.#byKey(key)) return;
    this.#reader.keepingPlace(() => {
      this.#add({ role: "user", key, after, at: new Date(at) }).show(text);
      this.#arrange();
    });
  }

  note(key, text, actions = [], urgent = false) {
    this.#reader.keepingPlace(() => this.#byKey(key)?.note(text, actions, urgent));
  }

  remove(key) {
    this.#bubbles = this.#bubbles.filter((bubble) => bubble.key !== key);
    this.#arrange();
  }

  // --- an answer coming into being --------------------------------------------------------------

  /** Three dots, or an answer as far as it has come. Null takes them away. */
  writing(draft) {
    if (draft === null) return this.#live && this.#reader.keepingPlace(() => this.#dropLive());
    const { turn, text } = draft;
    if (this.#pastTurns.has(turn)) return undefined;
    if (!this.#live) this.#beginLive();
    const live = this.#live;
    if (turn === null || (turn === live.turn && text.length < live.text.length)) return undefined;
    if (live.turn === null) this.#reader.unread();
    else if (live.turn !== turn) this.#pastTurns.add(live.turn); // it was begun anew
    Object.assign(live, { turn, text });
    return this.#paintSoon();
  }

  /** A whole reply. Messages that came together have one reply, and it comes for each of them. */
  finish(reply, turn) {
    const { message_id, source, deferred } = reply;
    if (turn !== null) this.#pastTurns.add(turn);
    const live = this.#live && [turn, null].includes(this.#live.turn) ? this.#live : null;
    const known = this.#bubbles.some(({ id }) => id === message_id);
    if (known && live) this.writing(null);
    if (known) return;
    this.#reader.keepingPlace(() => {
      if (live) this.#live = null;
      const bubble = live?.bubble ?? this.#add({ role: "assistant" });
      bubble.fresh = true;
      bubble.settle({ message_id, text: reply.reply, source, deferred, created_at: new Date() });
      this.#arrange();
    });
    this.announce(reply.reply);
  }

  /** Say it once to those who listen instead of looking. */
  announce(text) {
    const said = element("p", "", this.#t.they_said + text);
    this.#announced.append(said);
    setTimeout(() => said.remove(), ANNOUNCED_MS);
    this.#reader.unread();
  }

  #beginLive() {
    this.#reader.keepingPlace(() => {
      this.#live = { bubble: this.#add({ role: "assistant" }), turn: null, text: "" };
      this.#live.bubble.begin();
      this.#arrange();
    });
  }

  #dropLive() {
    this.#bubbles = this.#bubbles.filter((bubble) => bubble !== this.#live.bubble);
    this.#live = null;
    this.#arrange();
  }

  #paintSoon() {
    if (this.#painting) return;
    this.#painting = true;
    requestAnimationFrame(() => {
      this.#painting = false;
      if (this.#live?.text) this.#reader.keepingPlace(() => this.#live.bubble.show(this.#live.text));
    });
  }

  // --- the list ---------------------------------------------------------------------------------

  #byKey(key) {
    return this.#bubbles.find((bubble) => bubble.key === key);
  }

  #add(about) {
    const bubble = new Bubble(this.#t, about);
    this.#bubbles.push(bubble);
    return bubble;
  }

  /** Bring the list on the screen to the messages' order, with a line for each new day. */
  #arrange() {
    this.#bubbles.sort(inOrder);
    const wanted = [];
    let former = null;
    for (const bubble of this.#bubbles) {
      const sameDay = former?.at.toDateString() === bubble.at.toDateString();
      if (!sameDay && !bubble.live) wanted.push(this.#dayItem(bubble.at));
      const joined = sameDay && former.role === bubble.role && bubble.at - former.at < SAME_GROUP_MS;
      former?.item.classList.toggle("leads", joined);
      bubble.item.classList.remove("leads");
      if (!bubble.live) bubble.showTime(this.#formats.time);
      wanted.push(bubble.item);
      former = bubble;
    }
    const staying = new Set(wanted);
    for (const node of [...this.#list.children]) if (!staying.has(node)) node.remove();
    wanted.forEach((node, index) => {
      const there = this.#list.children[index];
      if (there !== node) this.#list.insertBefore(node, there ?? null);
    });
  }

  #dayItem(at) {
    const day = at.toDateString();
    if (!this.#days.has(day)) this.#days.set(day, element("li", "day"));
    const now = new Date();
    const past = Math.round((new Date(day) - new Date(now.toDateString())) / 86_400_000);
    const { near, day: short, dayOfYear } = this.#formats;
    const date = at.getFullYear() === now.getFullYear() ? short : dayOfYear;
    const item = this.#days.get(day);
    item.textContent = past === 0 || past === -1 ? near.format(past, "day") : date.format(at);
    return item;
  }
}

/** As the server keeps it, nearly: composed, without blank ends. */
function plain(text) {
  return text.normalize("NFC").replace(/\r\n?/g, "\n").trim();
}
