// What was written and not answered yet. It survives a reload: each message keeps its idempotency key,
// so sending it again can only get the same answer.

const USER = "xinyu.user";
const UNANSWERED = "xinyu.unanswered";
const DRAFT = "xinyu.draft";

export function userId() {
  let id = localStorage.getItem(USER);
  if (!id) localStorage.setItem(USER, (id = newKey()));
  return id;
}

/** crypto.randomUUID exists only in secure contexts; an operator's plain-http test page is none. */
export function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function unanswered() {
  try {
    return JSON.parse(localStorage.getItem(UNANSWERED)) || [];
  } catch {
    return [];
  }
}

export function remember(message) {
  save([...unanswered(), message]);
}

export function forget(key) {
  save(unanswered().filter((message) => message.key !== key));
}

function save(messages) {
  localStorage.setItem(UNANSWERED, JSON.stringify(messages));
}

export const draft = {
  load: () => sessionStorage.getItem(DRAFT) || "",
  save: (text) => sessionStorage.setItem(DRAFT, text),
};
