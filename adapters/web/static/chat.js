// The chat page: the box to write in, and what happens between it, the server and the screen.

import { Log } from "./log.js";
import { Sender } from "./send.js";
import { draft as unsent, newKey, onOtherTabs, place, userId, waiting } from "./store.js";
import { Draft, codePoints, history } from "./stream.js";

const PAGE = 50;
const PAGES_TO_PLACE = 6;
const LIMIT = Number(document.body.dataset.limit);
const LOOK_MS = 30_000;
const LOOK_LONGEST_MS = 5 * 60_000;
const LOOK_FOR_MS = 12 * 60 * 60_000;
const SILENT_HISTORY_TRIES = 3;

const t = JSON.parse(document.body.dataset.texts);
const $ = (id) => document.getElementById(id);
const [scroll, form, box, sendButton, status] = ["scroll", "form", "message", "send", "status"].map($);
const user = userId();
const log = new Log({ ...t });
const sender = new Sender(user, { delta: showDelta, done: showDone, state: showState });
const slow = new Set(); // keys that are having trouble: no dots for them
const elsewhere = new Set(); // keys that another tab is sending
let lastAt = 0;

// --- sending ----------------------------------------------------------------------------------

function sendBox() {
  const text = box.value.trim();
  if (!text || tooLong()) return;
  box.value = "";
  boxChanged();
  lastAt = Math.max(Date.now(), lastAt + 1);
  const record = { key: newKey(), text, at: new Date(lastAt).toISOString(), after: log.newestId };
  waiting.keep(record);
  log.own(record);
  log.follow();
  send(record);
}

function send(record) {
  slow.delete(record.key);
  elsewhere.delete(record.key);
  log.note(record.key, "");
  sender.send(record);
  showWriting();
}

/** Everything that has no answer yet is asked for (again): after a reload, or when a tab comes back. */
function resume() {
  for (const record of waiting.all()) {
    log.own(record);
    if (record.failed) showFailure(record);
    else if (!sender.has(record.key)) send(record);
  }
}

function showDelta({ draft }) {
  log.writing(draft);
  status.textContent = "";
}

function showDone({ record, draft }, reply) {
  waiting.drop(record.key);
  slow.delete(record.key);
  log.note(record.key, "");
  log.finish(reply, draft.turn);
  showWriting();
  if (reply.deferred) look(LOOK_MS);
}

function showState({ record }, name, code) {
  const { key } = record;
  if (name === "waiting") {
    if (slow.delete(key)) log.note(key, "");
    return;
  }
  slow.add(key);
  if (name === "failed") {
    const failed = { ...record, failed: code };
    waiting.keep(failed);
    showFailure(failed);
  } else {
    log.note(key, t[name], [[t.retry_now, () => sender.hurry()]]);
  }
  showWriting();
}

function showFailure(record) {
  slow.add(record.key);
  const reasons = { 401: t.failed_forbidden, 403: t.failed_forbidden, 413: t.failed_too_long };
  const tooMuch = record.failed === 422 && codePoints(record.text) > LIMIT;
  const reason = tooMuch ? t.failed_too_long : (reasons[record.failed] ?? t.failed);
  log.note(record.key, reason, [[t.retry, () => again(record)], [t.take_back, () => takeBack(record)]], true);
  status.textContent = reason;
}

/** A refused message never became one: it goes out anew, under a key of its own. */
function again({ key, text, at }) {
  forget(key);
  const record = { key: newKey(), text, at, after: log.newestId };
  waiting.keep(record);
  log.own(record);
  send(record);
  box.focus();
}

function takeBack({ key, text }) {
  forget(key);
  box.value = box.value ? `${text}\n${box.value}` : text;
  boxChanged();
  box.focus();
}

function forget(key) {
  sender.drop(key);
  waiting.drop(key);
  slow.delete(key);
  log.remove(key);
}

/** Dots while an answer is on its way that nobody has seen anything of. */
function showWriting() {
  const drafts = sender.drafts.filter(({ turn }) => turn !== null).sort((a, b) => a.length - b.length);
  const expected = waiting.all().some(({ key }) => !slow.has(key) && (sender.has(key) || elsewhere.has(key)));
  if (drafts.length) log.writing(drafts.at(-1));
  else if (expected) log.writing(new Draft());
  else log.writing(null);
  status.textContent = expected && !drafts.length ? t.writing : status.textContent === t.writing ? "" : status.textContent;
}

onOtherTabs({
  sent(record) {
    log.own(record);
    if (record.seen !== undefined) return resume(); // that tab was left while the answer came
    if (record.failed) showFailure(record);
    else elsewhere.add(record.key);
    return showWriting();
  },
  settled(key) {
    if (sender.has(key)) return;
    elsewhere.delete(key);
    log.note(key, "");
    sync().then(showWriting);
  },
});

// --- history ----------------------------------------------------------------------------------

let more = false;
let loaded = false;
let fetching = null;

/** Fetch a page and show it; one at a time. Rejects as `history` does. */
async function fetchPage(older) {
  while (fetching) await fetching.catch(() => {});
  fetching = (async () => {
    const { cursor, at } = (older && log.oldest) || {};
    const page = await history(user, { limit: PAGE, before: cursor ?? at?.toISOString() ?? null });
    const before = log.oldest?.id;
    const replies = log.merge(page.messages, { older });
    const reached = log.oldest?.id === page.messages[0]?.message_id;
    if (reached) more = page.more && !(older && before === log.oldest?.id); // no progress: there is no more
    $("older").hidden = !more;
    $("beginning").hidden = more;
    return replies;
  })();
  try {
    return await fetching;
  } finally {
    fetching = null;
  }
}

async function loadFirst(tries = 0) {
  try {
    await fetchPage(false);
    loaded = true;
    showNotice("");
    await restorePlace();
    if (log.newestReply?.source === "listener") look(LOOK_MS);
  } catch {
    const wait = Math.min(30_000, 500 * 2 ** tries * (0.5 + Math.random() / 2));
    if (tries >= SILENT_HISTORY_TRIES) showNotice(t.history_failed, () => loadFirst(SILENT_HISTORY_TRIES));
    else setTimeout(() => loadFirst(tries + 1), wait);
  }
}

async function restorePlace() {
  const wanted = place.read();
  if (!wanted) return log.follow();
  for (let page = 0; !log.restore(wanted) && more && page < PAGES_TO_PLACE; page += 1) await fetchPage(true);
  return undefined;
}

/** What came since, from wherever. Quiet: whoever cares asks again. */
async function sync() {
  if (!loaded) return loadFirst(SILENT_HISTORY_TRIES);
  try {
    for (const { text } of await fetchPage(false)) log.announce(text);
  } catch {
    // The next sync may do better.
  }
  return undefined;
}

async function loadOlder() {
  if (!more || fetching) return;
  try {
    await fetchPage(true);
    showNotice("");
  } catch {
    showNotice(t.history_failed, loadOlder);
  }
}

function showNotice(text, retry = null) {
  const notice = $("notice");
  notice.hidden = !text;
  notice.textContent = text;
  if (!retry) return;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = t.retry;
  button.addEventListener("click", () => {
    showNotice("");
    retry();
    box.focus();
  });
  notice.append(" ", button);
}

let looking = null;

/** The listener answered: look for the real answer now and then, less and less often. */
function look(wait) {
  clearTimeout(looking);
  looking = setTimeout(async () => {
    looking = null;
    if (!document.hidden) await sync();
    if (owed()) look(Math.min(wait * 1.5, LOOK_LONGEST_MS));
  }, wait);
}

function owed() {
  const reply = log.newestReply;
  return reply?.source === "listener" && Date.now() - reply.at < LOOK_FOR_MS;
}

// --- the box ----------------------------------------------------------------------------------

function boxChanged() {
  unsent.write(box.value);
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
  sendButton.disabled = !box.value.trim();
  const count = box.value.length > LIMIT ? codePoints(box.value) : 0;
  const text = count > LIMIT ? t.too_long.replace("{limit}", LIMIT).replace("{count}", count) : "";
  if ($("too-long").textContent !== text) $("too-long").textContent = text;
  box.setAttribute("aria-invalid", String(Boolean(text)));
}

const tooLong = () => codePoints(box.value.trim()) > LIMIT;

box.addEventListener("input", boxChanged);
box.addEventListener("keydown", (event) => {
  // Enter that chooses a word of an input method is not ours; Safari only tells by 229.
  if (event.isComposing || event.keyCode === 229) return;
  if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey) {
    event.preventDefault();
    sendBox();
  } else if (event.key === "Escape") {
    event.stopPropagation();
    scroll.focus();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !event.isComposing) box.focus();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  sendBox();
});
// A touch on the button must not close the phone's keyboard.
sendButton.addEventListener("pointerdown", (event) => event.preventDefault());
$("newest").addEventListener("click", () => box.focus({ preventScroll: true }));
$("older").addEventListener("click", loadOlder);
scroll.addEventListener("scroll", () => loaded && scroll.scrollTop < 200 && loadOlder(), { passive: true });

// --- the world around ---------------------------------------------------------------------------

function back() {
  $("offline").hidden = navigator.onLine;
  if (!navigator.onLine) return;
  sender.hurry();
  resume();
  if (loaded ? owed() : !fetching) sync();
}

window.addEventListener("online", back);
window.addEventListener("offline", back);
document.addEventListener("visibilitychange", () => !document.hidden && back());
window.addEventListener("pagehide", () => {
  sender.leave();
  place.write(log.place);
});
window.addEventListener("pageshow", (event) => event.persisted && (back(), sync()));

// iOS lays its keyboard over the page instead of making it smaller.
window.visualViewport?.addEventListener("resize", () => {
  const { height, scale } = window.visualViewport;
  const covered = scale === 1 && window.innerHeight - height > 80;
  document.documentElement.style.setProperty("--height", covered ? `${height}px` : "100dvh");
});

box.value = unsent.read();
boxChanged();
$("offline").hidden = navigator.onLine;
resume();
loadFirst();
if (window.matchMedia("(pointer: fine)").matches) box.focus({ preventScroll: true });
document.documentElement.dataset.ready = "";
