// The conversation on the screen. What is shown is made with textContent only: nothing that anybody
// writes becomes markup. Screen readers hear each finished reply once, from the `announced` region.

const NEAR_BOTTOM = 48;
const SAME_GROUP_MS = 5 * 60_000;
const ANNOUNCED_MS = 20_000;

export class Log {
  #t;
  #$ = (id) => document.getElementById(id);
  #scroll = this.#$("scroll");
  #list = this.#$("messages");
  #entries = []; // {id, key, role, text, at, item}, as shown from top to bottom
  #days = new Map();
  #live = null;
  #pastTurns = new Set();
  #painting = false;
  #lastTop = 0;
  #following = true;

  constructor(texts) {
    this.#t = texts;
    const tag = document.documentElement.lang;
    this.#t.time = new Intl.DateTimeFormat(tag, { timeStyle: "short" });
    this.#t.day = new Intl.DateTimeFormat(tag, { month: "long", day: "numeric", weekday: "long" });
    this.#t.dayOfYear = new Intl.DateTimeFormat(tag, { dateStyle: "long" });
    this.#t.near = new Intl.RelativeTimeFormat(tag, { numeric: "auto" });
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    const keepBottom = new ResizeObserver(() => this.#following && this.#toBottom());
    keepBottom.observe(this.#scroll);
    keepBottom.observe(this.#list);
    this.#$("newest").addEventListener("click", () => this.follow());
  }

  // --- what is on the screen --------------------------------------------------------------------

  /** The id of the newest message that the server is known to have. */
  get newestId() {
    return this.#entries.findLast((entry) => entry.id !== null)?.id ?? null;
  }

  get oldest() {
    return this.#entries.find((entry) => entry.id !== null) ?? null;
  }

  get newestReply() {
    return this.#entries.findLast((entry) => entry.role === "assistant") ?? null;
  }

  /** Show a page of the history; returns the replies that were not shown before. `older`: it goes before all there is. */
  merge(messages, { older = false } = {}) {
    return this.#keepingPlace(() => {
      if (!older) this.#closeHole(messages);
      const known = new Map(this.#entries.map((entry) => [entry.id, entry]));
      const first = this.#entries.findIndex(({ id }) => id !== null && messages.some((message) => message.message_id === id));
      const isEarlier = new Set(this.#entries.filter(({ id, fresh }, i) => (first >= 0 ? i < first : id !== null && !fresh)));
      const replies = [];
      const page = messages.map((message, index) => {
        const found = known.get(message.message_id) ?? (older ? undefined : this.#adopt(message, messages.slice(index)));
        if (!found && message.role === "assistant") replies.push(message);
        return this.#settle(found ?? this.#add({ role: message.role }), message);
      });
      const inPage = new Set(page);
      const rest = this.#entries.filter((entry) => !inPage.has(entry));
      const earlier = older ? [] : rest.filter((entry) => isEarlier.has(entry));
      this.#entries = [...earlier, ...page, ...rest.filter((entry) => !earlier.includes(entry))];
      for (const entry of this.#entries) entry.fresh = false;
      this.#arrange();
      return replies;
    });
  }

  own(record) {
    if (this.#byKey(record.key)) return;
    const entry = this.#add({ role: "user", key: record.key, after: record.after });
    this.#settle(entry, { message_id: null, text: record.text, created_at: record.at });
    this.#arrange();
  }

  /** A line under one's own message, with buttons: [[text, does], …]. */
  note(key, text, actions = [], urgent = false) {
    const entry = this.#byKey(key);
    if (!entry || entry.note === text) return;
    this.#keepingPlace(() => this.#note(entry, text, actions, urgent));
  }

  remove(key) {
    const entry = this.#byKey(key);
    this.#entries = this.#entries.filter((other) => other !== entry);
    this.#arrange();
  }

  // --- an answer coming into being --------------------------------------------------------------

  /** Three dots, or an answer as far as the furthest stream has it. Null takes them away. */
  writing(draft) {
    if (draft === null) return this.#live && this.#keepingPlace(() => this.#dropLive());
    if (draft.turn !== null && this.#pastTurns.has(draft.turn)) return undefined;
    if (!this.#live) this.#beginLive();
    if (draft.turn === null) return undefined;
    if (this.#live.turn !== null && this.#live.turn !== draft.turn) this.#pastTurns.add(this.#live.turn);
    else if (draft !== this.#live.draft && draft.text.length < this.#live.text.length) return undefined;
    if (this.#live.turn === null && !this.#following) this.#unread();
    Object.assign(this.#live, { turn: draft.turn, text: draft.text, draft });
    this.#paintSoon();
    return undefined;
  }

  /** A whole reply; true if it was not shown before. */
  finish(reply, turn) {
    if (turn !== null) this.#pastTurns.add(turn);
    const mine = this.#live && (this.#live.turn === turn || this.#live.turn === null);
    if (this.#entries.some((entry) => entry.id === reply.message_id)) {
      if (mine) this.writing(null);
      return false;
    }
    this.#keepingPlace(() => {
      const live = mine ? this.#live : null;
      if (live) this.#live = null;
      const entry = live ?? this.#add({ role: "assistant" });
      entry.fresh = true;
      const { message_id, source, deferred } = reply;
      this.#settle(entry, { message_id, text: reply.reply, source, deferred, created_at: new Date().toISOString() });
      this.#arrange();
    });
    this.announce(reply.reply);
    return true;
  }

  /** Say it once to those who listen instead of looking. */
  announce(text) {
    const said = document.createElement("p");
    said.textContent = `${this.#t.name}：${text}`;
    this.#$("announced").append(said);
    setTimeout(() => said.remove(), ANNOUNCED_MS);
    if (!this.#following) this.#unread();
  }

  #beginLive() {
    this.#keepingPlace(() => {
      this.#live = Object.assign(this.#add({ role: "assistant" }), { turn: null, draft: null });
      this.#live.item.classList.add("live");
      this.#live.item.setAttribute("aria-hidden", "true"); // heard whole, when it is
      const dots = element("span", "dots");
      dots.append(element("i"), element("i"), element("i"));
      this.#live.words.append(dots);
      this.#arrange();
    });
  }

  #dropLive() {
    this.#entries = this.#entries.filter((entry) => entry !== this.#live);
    this.#live = null;
    this.#arrange();
  }

  #paintSoon() {
    if (this.#painting) return;
    this.#painting = true;
    requestAnimationFrame(() => {
      this.#painting = false;
      if (this.#live?.turn != null) this.#keepingPlace(() => show(this.#live.words, this.#live.text));
    });
  }

  // --- where the reader is ----------------------------------------------------------------------

  get following() {
    return this.#following;
  }

  follow() {
    this.#following = true;
    this.#toBottom();
    this.#scrolled();
  }

  /** {id, offset} of the first message in sight, or null at the bottom: for the next load. */
  get place() {
    if (this.#following) return null;
    const top = this.#scroll.getBoundingClientRect().top;
    const entry = this.#entries.find(({ id, item }) => id !== null && item.getBoundingClientRect().bottom > top);
    return entry ? { id: entry.id, offset: entry.item.getBoundingClientRect().top - top } : null;
  }

  /** Go where the reader was; false if that message is not here. */
  restore(place) {
    const entry = this.#entries.find(({ id }) => id === place.id);
    if (!entry) return false;
    this.#following = false;
    const top = this.#scroll.getBoundingClientRect().top;
    this.#scroll.scrollTop += entry.item.getBoundingClientRect().top - top - place.offset;
    this.#scrolled();
    return true;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroll;
    const left = scrollHeight - scrollTop - clientHeight;
    if (left < NEAR_BOTTOM) this.#following = true;
    else if (scrollTop < this.#lastTop - 1) this.#following = false;
    this.#lastTop = scrollTop;
    const button = this.#$("newest");
    button.hidden = this.#following;
    if (this.#following && button.classList.contains("unread")) {
      button.classList.remove("unread");
      button.firstElementChild.textContent = this.#t.newest;
    }
  }

  #unread() {
    const button = this.#$("newest");
    button.classList.add("unread");
    button.firstElementChild.textContent = this.#t.new_messages;
    button.hidden = false;
  }

  #toBottom() {
    this.#scroll.scrollTop = this.#scroll.scrollHeight;
    this.#lastTop = this.#scroll.scrollTop;
  }

  /** Change what is shown without moving what is being read. */
  #keepingPlace(change) {
    const anchor = this.#following ? null : this.place;
    const result = change();
    if (this.#following) this.#toBottom();
    else if (anchor) this.restore(anchor);
    return result;
  }

  // --- building ---------------------------------------------------------------------------------

  #byKey(key) {
    return this.#entries.find((entry) => entry.key === key);
  }

  #add({ role, key = null, after = null }) {
    const mine = role === "user";
    const item = element("li", mine ? "mine" : "theirs");
    const words = element("p", "words");
    words.dir = "auto";
    const meta = element("p", "meta");
    item.append(element("span", "unseen", `${mine ? this.#t.you : this.#t.name}：`), words, meta);
    const entry = { id: null, key, after, role, text: "", at: new Date(), item, words, meta, note: null, fresh: false };
    // What is being written stays last: the answer's place in the history is after all that it answers.
    this.#entries.splice(this.#live ? this.#entries.indexOf(this.#live) : this.#entries.length, 0, entry);
    return entry;
  }

  #settle(entry, { message_id, text, source, deferred, created_at }) {
    Object.assign(entry, { id: message_id ?? entry.id, text, at: new Date(created_at) });
    entry.source = source ?? entry.source;
    entry.deferred = deferred ?? entry.deferred ?? false;
    entry.item.classList.remove("live");
    entry.item.removeAttribute("aria-hidden");
    show(entry.words, text);
    if (entry.source === "listener") {
      this.#note(entry, entry.deferred ? this.#t.listener_deferred : this.#t.listener, [], false);
    }
    return entry;
  }

  /**
   * The bubble that a message of the history is already shown as. History does not know our keys, so
   * one's own message is known by its words, unless the message that was newest then comes only later.
   */
  #adopt(message, following) {
    if (message.role === "assistant") {
      const live = this.#live;
      if (!live || live.turn === null || !message.text.startsWith(live.text)) return undefined;
      this.#pastTurns.add(live.turn);
      this.#live = null;
      this.announce(message.text);
      return live;
    }
    const words = plain(message.text);
    const later = new Set(following.map(({ message_id }) => message_id));
    return this.#entries.find(
      ({ role, id, text, after }) => role === "user" && id === null && !later.has(after) && plain(text) === words,
    );
  }

  /** If so much was said elsewhere that this page does not reach what is shown, start over with the page. */
  #closeHole(messages) {
    const ids = new Set(messages.map(({ message_id }) => message_id));
    const shown = this.#entries.filter(({ id, fresh }) => id !== null && !fresh);
    if (messages.length && shown.length && !shown.some(({ id }) => ids.has(id))) {
      this.#entries = this.#entries.filter((entry) => !shown.includes(entry));
    }
  }

  #note(entry, text, actions, urgent) {
    entry.note = text;
    entry.noteItem?.remove();
    entry.noteItem = null;
    if (!text) return;
    entry.noteItem = element("p", urgent ? "note urgent" : "note", text);
    for (const [label, does] of actions) {
      const button = element("button", "", label);
      button.type = "button";
      button.addEventListener("click", does);
      entry.noteItem.append(" ", button);
    }
    entry.item.append(entry.noteItem);
  }

  /** Bring the list on the screen to the entries' order, with a line for each new day. */
  #arrange() {
    const wanted = [];
    let former = null;
    for (const entry of this.#entries) {
      const day = entry.at.toDateString();
      const sameDay = former?.at.toDateString() === day;
      if (!sameDay && entry !== this.#live) wanted.push(this.#dayItem(day, entry.at));
      const joined = sameDay && former.role === entry.role && entry.at - former.at < SAME_GROUP_MS;
      entry.item.classList.toggle("joined", joined);
      former?.item.classList.toggle("leads", joined);
      if (entry !== this.#live) this.#time(entry);
      entry.item.classList.remove("leads");
      wanted.push(entry.item);
      former = entry;
    }
    const staying = new Set(wanted);
    for (const node of [...this.#list.children]) if (!staying.has(node)) node.remove();
    wanted.forEach((node, index) => {
      if (this.#list.children[index] !== node) this.#list.insertBefore(node, this.#list.children[index] ?? null);
    });
  }

  #time(entry) {
    const iso = entry.at.toISOString();
    if (entry.meta.firstChild?.dateTime === iso) return;
    const time = element("time", "", this.#t.time.format(entry.at));
    time.dateTime = iso;
    entry.meta.replaceChildren(time);
  }

  #dayItem(day, at) {
    if (!this.#days.has(day)) this.#days.set(day, element("li", "day"));
    const item = this.#days.get(day);
    const now = new Date();
    const past = Math.round((new Date(day) - new Date(now.toDateString())) / 86_400_000);
    const near = past === 0 || past === -1 ? this.#t.near.format(past, "day") : null;
    const text = near ?? (at.getFullYear() === now.getFullYear() ? this.#t.day : this.#t.dayOfYear).format(at);
    if (item.textContent !== text) item.replaceChildren(element("span", "", text));
    return item;
  }
}

function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

/** As the server keeps it, nearly: composed, without blank ends. */
function plain(text) {
  return text.normalize("NFC").replace(/\r\n?/g, "\n").trim();
}

/** Replace a paragraph's text; where it only grew, add to it, which keeps a selection. */
function show(paragraph, text) {
  const node = paragraph.firstChild;
  if (node?.nodeType === Node.TEXT_NODE && text.startsWith(node.data)) {
    if (text.length > node.data.length) node.appendData(text.slice(node.data.length));
  } else {
    paragraph.textContent = text;
  }
}
