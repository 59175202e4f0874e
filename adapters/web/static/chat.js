// The chat page: the box to write in, and what happens between it, the server and the screen.

import { Log } from "./log.js";
import { Past } from "./past.js";
import { Reader } from "./reader.js";
import { Sender } from "./send.js";
import { draft as unsent, newKey, onOtherTabs, place, userId, waiting } from "./store.js";
import { Draft, codePoints } from "./stream.js";

const LIMIT = Number(document.body.dataset.limit);
const LOOK_EVERY_MS = 30_000;
const LOOK_FOR_MS = 12 * 60 * 60_000;

const t = JSON.parse(document.body.dataset.texts);
const $ = (id) => document.getElementById(id);
const [scroll, form, box, sendButton, status] = ["scroll", "form", "message", "send", "status"].map($);
const user = userId();
const reader = new Reader(scroll, $("messages"), $("newest"), t);
const log = new Log(t, reader, $("messages"), $("announced"));
const past = new Past(user, log, t, { older: $("older"), beginning: $("beginning"), notice: $("notice") });
const sender = new Sender(user, { delta: showDelta, done: showDone, late: showLate, failed: showFailed });
const failed = new Set();
let lastAt = 0;

// --- sending ------------------------------------------------------------------------------------

function sendBox() {
  const text = box.value.trim();
  if (!text || codePoints(text) > LIMIT) return;
  box.value = "";
  boxChanged();
  say(text);
  reader.follow();
}

function say(text) {
  lastAt = Math.max(Date.now(), lastAt + 1);
  const record = { key: newKey(), text, at: new Date(lastAt).toISOString(), after: log.newestId };
  waiting.keep(record);
  send(record);
}

function send(record) {
  log.own(record);
  sender.send(record);
  showWriting();
}

/** Everything that has no answer yet is asked for (again): after a reload, or when another tab sent it. */
function resume() {
  for (const record of waiting.all()) {
    if (record.failed === undefined) send(record);
    else showFailure(record);
  }
}

function showDelta({ record, draft }) {
  log.note(record.key, "");
  log.writing(draft);
  status.textContent = "";
}

function showDone({ record, draft }, reply) {
  waiting.drop(record.key);
  log.note(record.key, "");
  log.finish(reply, draft.turn);
  showWriting();
}

function showLate({ record }, name) {
  log.note(record.key, t[name], [[t.retry_now, () => sender.hurry()]]);
  showWriting();
}

function showFailed({ record }, code) {
  waiting.keep({ ...record, failed: code });
  showFailure({ ...record, failed: code });
  showWriting();
}

function showFailure(record) {
  log.own(record);
  if (failed.has(record.key)) return;
  failed.add(record.key);
  const reason = { 401: t.failed_forbidden, 403: t.failed_forbidden, 413: t.failed_too_long }[record.failed] ?? t.failed;
  log.note(record.key, reason, [[t.retry, () => again(record)], [t.take_back, () => takeBack(record)]], true);
  status.textContent = reason;
}

/** A refused message never became one: it goes out anew, under a key of its own. */
function again({ key, text }) {
  forget(key);
  say(text);
  box.focus();
}

function takeBack({ key, text }) {
  forget(key);
  box.value = box.value ? `${text}\n${box.value}` : text;
  boxChanged();
  box.focus();
}

function forget(key) {
  failed.delete(key);
  waiting.drop(key);
  log.remove(key);
}

/** Dots while an answer is on its way that nobody has seen anything of. */
function showWriting() {
  const begun = sender.jobs.map(({ draft }) => draft).filter(({ turn }) => turn !== null);
  const expected = sender.jobs.some(({ late }) => !late);
  if (begun.length) log.writing(begun.reduce((a, b) => (b.length > a.length ? b : a)));
  else log.writing(expected ? new Draft() : null);
  if (expected && !begun.length) status.textContent = t.writing;
  else if (status.textContent === t.writing) status.textContent = "";
}

// The same message in two tabs is one message: both follow its answer.
onOtherTabs({
  sent: resume,
  settled(key) {
    if (failed.delete(key)) log.remove(key);
    else if (!sender.has(key)) past.sync();
  },
});

// --- the box ------------------------------------------------------------------------------------

function boxChanged() {
  unsent.write(box.value);
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight + box.offsetHeight - box.clientHeight}px`;
  sendButton.disabled = !box.value.trim();
  const count = box.value.length > LIMIT ? codePoints(box.value.trim()) : 0;
  const text = count > LIMIT ? t.too_long.replace("{limit}", LIMIT).replace("{count}", count) : "";
  if ($("too-long").textContent !== text) $("too-long").textContent = text;
  box.setAttribute("aria-invalid", String(Boolean(text)));
}

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
scroll.addEventListener("scroll", () => scroll.scrollTop < 200 && past.older(), { passive: true });

// --- the world around ---------------------------------------------------------------------------

function back() {
  $("offline").hidden = navigator.onLine;
  if (!navigator.onLine) return;
  sender.hurry();
  past.sync();
}

/** The offline listener answered: the real answer follows some time. */
function owed() {
  const reply = log.newestReply;
  return reply?.source === "listener" && Date.now() - reply.at < LOOK_FOR_MS;
}

setInterval(() => !document.hidden && owed() && past.sync(), LOOK_EVERY_MS);
window.addEventListener("online", back);
window.addEventListener("offline", back);
document.addEventListener("visibilitychange", () => !document.hidden && back());
window.addEventListener("pagehide", () => place.write(reader.place));
window.addEventListener("pageshow", (event) => event.persisted && back());

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
past.begin(() => {
  const wanted = place.read();
  return wanted ? reader.restore(wanted) : (reader.follow(), true);
});
if (window.matchMedia("(pointer: fine)").matches) box.focus({ preventScroll: true });
document.documentElement.dataset.ready = "";
