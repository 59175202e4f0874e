// What this browser keeps: who the reader is, what was not answered yet, what was not sent yet.
// A browser that keeps nothing (private modes, full disks) still gets a page that works until it is closed.

const USER = "xinyu.user";
const DRAFT = "xinyu.draft";
const PLACE = "xinyu.place";
const WAITING = "xinyu.waiting.";

function kept(storage) {
  const memory = new Map();
  const attempt = (does, otherwise) => {
    try {
      return does();
    } catch {
      return otherwise();
    }
  };
  return {
    get: (key) => attempt(() => storage().getItem(key), () => null) ?? memory.get(key) ?? null,
    set(key, value) {
      attempt(() => storage().setItem(key, value), () => memory.set(key, value));
    },
    remove(key) {
      memory.delete(key);
      attempt(() => storage().removeItem(key), () => {});
    },
    keys: () => [...attempt(() => Object.keys(storage()), () => []), ...memory.keys()],
  };
}

const local = kept(() => window.localStorage);
const session = kept(() => window.sessionStorage);

/** Unguessable, and nothing about the person. crypto.randomUUID is missing on plain-http addresses. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function userId() {
  if (!local.get(USER)) local.set(USER, newKey());
  return local.get(USER);
}

export const draft = {
  read: () => local.get(DRAFT) ?? "",
  write: (text) => (text ? local.set(DRAFT, text) : local.remove(DRAFT)),
};

/** Where the reader was, for this tab's next load. */
export const place = {
  read: () => parsed(session.get(PLACE)),
  write: (value) => session.set(PLACE, JSON.stringify(value)),
};

/** Messages without their answer: {key, text, at, after, failed}. A storage key each: tabs never overwrite each other's. */
export const waiting = {
  all: () =>
    local
      .keys()
      .filter((key) => key.startsWith(WAITING))
      .map((key) => parsed(local.get(key)))
      .filter((record) => record?.key && typeof record.text === "string")
      .sort((a, b) => (a.at < b.at ? -1 : Number(a.at > b.at))),
  keep: (record) => local.set(WAITING + record.key, JSON.stringify(record)),
  drop: (key) => local.remove(WAITING + key),
};

/** Another tab of this browser began to wait for an answer (`sent`), or no longer does (`settled(key)`). */
export function onOtherTabs({ sent, settled }) {
  window.addEventListener("storage", ({ key, newValue }) => {
    if (!key?.startsWith(WAITING)) return;
    if (newValue === null) settled(key.slice(WAITING.length));
    else sent();
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
