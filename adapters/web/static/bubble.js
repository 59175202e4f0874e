// One message on the screen. What is shown is made with textContent only: nothing that anybody writes
// becomes markup.

export class Bubble {
  id = null; // the server's, once it is known
  text = "";
  source = null;
  deferred = false;
  live = false; // still being written
  fresh = false; // known from its stream, not yet from the history
  #t;
  #meta = element("p", "meta");
  #note = null;

  /** `key`: one's own message's; `after`: the newest message there was when it was written. */
  constructor(t, { role, key = null, after = null, at = new Date() }) {
    Object.assign(this, { role, key, after, at });
    this.#t = t;
    const mine = role === "user";
    this.item = element("li", mine ? "mine" : "theirs");
    this.words = element("p", "words");
    this.words.dir = "auto";
    this.item.append(element("span", "unseen", mine ? t.you_said : t.they_said), this.words, this.#meta);
  }

  /** It is whole: what the history or the end of its stream says about it. */
  settle({ message_id, text, source = null, deferred = false, created_at }) {
    Object.assign(this, { id: message_id, text, at: new Date(created_at), live: false });
    this.source = source ?? this.source;
    this.deferred = deferred || this.deferred;
    this.item.dataset.id = message_id;
    this.item.classList.remove("live");
    this.item.removeAttribute("aria-hidden");
    this.show(text);
    if (this.source === "listener") this.note(this.deferred ? this.#t.listener_deferred : this.#t.listener);
  }

  /** Three dots, until there is something to show. Who listens hears the message once, when it is whole. */
  begin() {
    this.live = true;
    this.item.classList.add("live");
    this.item.setAttribute("aria-hidden", "true");
    const dots = element("span", "dots");
    dots.append(element("i"), element("i"), element("i"));
    this.words.append(dots);
  }

  /** Replace the words; where they only grew, add to them, which keeps a selection. */
  show(text) {
    const node = this.words.firstChild;
    if (node?.nodeType === Node.TEXT_NODE && text.startsWith(node.data)) node.appendData(text.slice(node.length));
    else this.words.textContent = text;
    this.text = text;
  }

  showTime(format) {
    const time = element("time", "", format.format(this.at));
    time.dateTime = this.at.toISOString();
    this.#meta.replaceChildren(time);
  }

  /** A line below, with buttons: [[label, does], …]. No text takes it away. */
  note(text, actions = [], urgent = false) {
    if ((this.#note?.firstChild?.data ?? "") === text) return;
    this.#note?.remove();
    this.#note = text ? element("p", urgent ? "note urgent" : "note", text) : null;
    if (!text) return;
    for (const [label, does] of actions) this.#note.append(" ", button(label, does));
    this.item.append(this.#note);
  }
}

/** The order on the screen: the server's ids; without one, right behind what came before it; live ones last. */
export function inOrder(a, b) {
  if (a.live !== b.live) return a.live ? 1 : -1;
  return compare(a.id ?? a.after, b.id ?? b.after) || (a.id === null) - (b.id === null) || a.at - b.at;
}

/** Ids grow with time, and are larger than a JavaScript number is exact. Null comes before all. */
export function compare(a, b) {
  const [x, y] = [BigInt(a ?? 0), BigInt(b ?? 0)];
  return x < y ? -1 : Number(x > y);
}

export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function button(label, does) {
  const made = element("button", "", label);
  made.type = "button";
  made.addEventListener("click", does);
  return made;
}
