// The chat page. What is shown is made with textContent only: nothing anybody writes becomes markup.

import { draft, forget, newKey, remember, unanswered, userId } from "./outbox.js";
import { applyDelta, eventsOf } from "./stream.js";

const $ = (id) => document.getElementById(id);
const t = document.body.dataset;
const [log, scroll, form, input, typing, status] = ["log", "scroll", "form", "message", "typing", "status"].map($);
const user = userId();
const days = new Intl.DateTimeFormat(t.language, { month: "long", day: "numeric", weekday: "long" });
const bubbles = new Map(); // message id or idempotency key -> its <li>
let waiting = 0; // messages whose answer has not begun to show
let oldest = null; // created_at of the oldest message shown
let owed = null; // timer that looks for the real answer to what the listener answered

// --- showing ----------------------------------------------------------------------------------

const atBottom = () => scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;

function keepingPlace(change) {
  const follow = atBottom();
  change();
  if (follow) scroll.scrollTop = scroll.scrollHeight;
  $("newer").hidden = atBottom();
}

function bubble(id, mine, text) {
  let item = bubbles.get(id);
  if (!item) {
    item = document.createElement("li");
    item.className = mine ? "mine" : "theirs";
    const who = document.createElement("span");
    who.className = "unseen";
    who.textContent = mine ? t.you : t.name;
    const words = document.createElement("p");
    words.dir = "auto";
    item.append(who, words);
    bubbles.set(id, item);
  }
  item.querySelector("p").textContent = text;
  return item;
}

function note(item, text) {
  if (item.querySelector("small")) return;
  const small = document.createElement("small");
  small.textContent = text;
  item.append(small);
}

function showTyping(change) {
  waiting += change;
  keepingPlace(() => (typing.hidden = waiting <= 0));
  status.textContent = waiting > 0 ? t.typing : "";
}

// --- saying something -------------------------------------------------------------------------

function say(text) {
  const message = { key: newKey(), text };
  remember(message);
  keepingPlace(() => log.append(bubble(message.key, true, text)));
  scroll.scrollTop = scroll.scrollHeight;
  deliver(message);
}

/** Send a message and follow its answer, again and again with the same key until there is one. */
async function deliver(message) {
  const answer = { text: "", id: null, item: null, lastEvent: null };
  showTyping(+1);
  try {
    for (let tries = 0; ; tries++) {
      const result = await tryOnce(message, answer);
      if (result === "done") return forget(message.key);
      if (result === "refused") return;
      if (tries === 1) complain(message, t.retrying);
      await pause(Math.min(30_000, 500 * 2 ** tries) * (0.5 + Math.random() / 2));
    }
  } finally {
    if (!answer.item) showTyping(-1);
    uncomplain(message);
  }
}

async function tryOnce(message, answer) {
  let response;
  try {
    response = await fetch("/chat/stream", {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "Idempotency-Key": message.key,
        ...(answer.lastEvent && { "Last-Event-ID": answer.lastEvent }),
      },
      body: JSON.stringify({ message: message.text, user_id: user, coalesce: true }),
    });
    if (response.status >= 500 || response.status === 429) return "again";
    if (!response.ok) {
      const problem = await response.json().catch(() => ({}));
      offerRetry(message, (problem.errors || []).map((error) => error.message).join(" ") || problem.detail || t.failed);
      return "refused";
    }
    uncomplain(message);
    for await (const event of eventsOf(response.body)) {
      if (event.name === "delta") showDelta(answer, event);
      else if (event.name === "done") return showWhole(answer, event.data), "done";
      else if (event.name === "error") return "again";
    }
  } catch (error) {
    if (!(error instanceof TypeError) && error.name !== "AbortError") console.warn("stream", error.name);
  }
  return "again"; // it ended before the answer was whole
}

function showDelta(answer, event) {
  answer.text = applyDelta(answer.text, event.data);
  answer.lastEvent = event.id;
  const id = `turn:${event.data.turn_id}`;
  if (answer.id && answer.id !== id) forgetBubble(answer.id); // the answer began again
  answer.id = id;
  const first = !answer.item;
  keepingPlace(() => {
    answer.item = bubble(id, false, answer.text);
    answer.item.setAttribute("aria-busy", "true"); // read out once it is whole, not word by word
    if (!answer.item.isConnected) log.append(answer.item);
  });
  if (first) showTyping(-1);
}

function showWhole(answer, done) {
  const first = !answer.item;
  keepingPlace(() => {
    if (answer.id && answer.id !== done.message_id) {
      const item = bubbles.get(answer.id);
      bubbles.delete(answer.id);
      if (bubbles.has(done.message_id)) item?.remove();
      else if (item) bubbles.set(done.message_id, item);
    }
    const item = bubble(done.message_id, false, done.reply);
    item.removeAttribute("aria-busy");
    if (done.source === "listener") note(item, t.listener);
    if (!item.isConnected) log.append(item);
    answer.item = item;
  });
  if (first) showTyping(-1);
  if (done.deferred) expectRealAnswer();
}

function forgetBubble(id) {
  bubbles.get(id)?.remove();
  bubbles.delete(id);
}

const pause = (milliseconds) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    addEventListener("online", () => (clearTimeout(timer), resolve()), { once: true });
  });

// --- when it does not get through -------------------------------------------------------------

function complain(message, text, button) {
  const item = bubbles.get(message.key);
  if (!item) return;
  uncomplain(message);
  const line = document.createElement("div");
  line.className = "problem";
  line.setAttribute("role", "status");
  line.append(text);
  if (button) line.append(button);
  keepingPlace(() => item.append(line));
}

function uncomplain(message) {
  const line = bubbles.get(message.key)?.querySelector(".problem");
  if (line && !line.querySelector("button")) line.remove();
}

function offerRetry(message, text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = t.retry;
  button.addEventListener("click", () => {
    button.parentElement.remove();
    deliver(message);
  });
  complain(message, text, button);
}

/** The listener answered: look now and then whether the real answer has come. */
function expectRealAnswer(seconds = 5) {
  clearTimeout(owed);
  owed = setTimeout(async () => {
    const before = bubbles.size;
    await loadNewest().catch(() => {});
    if (bubbles.size === before) expectRealAnswer(Math.min(seconds * 1.5, 120));
  }, seconds * 1000);
}

// --- history ----------------------------------------------------------------------------------

async function history(before) {
  const query = new URLSearchParams({ user_id: user, limit: "50", ...(before && { before }) });
  const response = await fetch(`/chat/history?${query}`);
  if (!response.ok) throw new Error(String(response.status));
  return response.json();
}

function place(messages, putAt) {
  let day = null;
  const items = [];
  for (const message of messages) {
    if (bubbles.has(message.message_id)) continue;
    const today = new Date(message.created_at).toDateString();
    if (today !== day) {
      day = today;
      const line = document.createElement("li");
      line.className = "day";
      line.textContent = days.format(new Date(message.created_at));
      items.push(line);
    }
    const item = bubble(message.message_id, message.role === "user", message.text);
    if (message.source === "listener") note(item, t.listener);
    items.push(item);
  }
  putAt(items);
}

async function loadNewest() {
  const { messages, more } = await history();
  oldest ??= messages[0]?.created_at ?? null;
  const mine = new Set(unanswered().map((message) => message.text));
  const last = messages.filter((message) => message.role === "assistant").at(-1);
  // Unanswered messages of ours stand in the history too: they are shown once, by their key.
  const shown = messages.filter((m) => !(m.role === "user" && mine.has(m.text) && (!last || m.created_at > last.created_at)));
  const known = [...log.querySelectorAll("li.mine, li.theirs")].length > 1;
  keepingPlace(() => place(known ? shown.filter((m) => m.role === "assistant") : shown, (items) => log.append(...items.filter((item) => !known || item.className !== "day"))));
  $("older").hidden = !more;
}

async function loadOlder() {
  const { messages, more } = await history(oldest);
  oldest = messages[0]?.created_at ?? oldest;
  const height = scroll.scrollHeight;
  place(messages, (items) => log.prepend(...items));
  scroll.scrollTop += scroll.scrollHeight - height; // what was being read stays where it was
  $("older").hidden = !more;
}

// --- the form ---------------------------------------------------------------------------------

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (!text) return input.focus();
  input.value = "";
  draft.save("");
  grow();
  say(text);
  input.focus();
});

input.addEventListener("keydown", (event) => {
  // While an input method composes (pinyin!), Enter picks a word: it must never send.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  form.requestSubmit();
});

input.addEventListener("input", () => {
  draft.save(input.value);
  grow();
});

function grow() {
  if (CSS.supports("field-sizing", "content")) return;
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight + 2}px`;
}

$("older").addEventListener("click", () => loadOlder().catch(() => {}));
$("newer").addEventListener("click", () => (scroll.scrollTop = scroll.scrollHeight));
scroll.addEventListener("scroll", () => ($("newer").hidden = atBottom()), { passive: true });
for (const kind of ["online", "offline"]) addEventListener(kind, () => ($("offline").hidden = navigator.onLine));

// --- start ------------------------------------------------------------------------------------

$("offline").hidden = navigator.onLine;
input.value = draft.load();
grow();
await loadNewest().catch(() => {});
for (const message of unanswered()) {
  log.append(bubble(message.key, true, message.text));
  deliver(message);
}
scroll.scrollTop = scroll.scrollHeight;
document.body.dataset.ready = "yes";
