"""The chats of the fake Telegram: who is in them, what was said there, and what the bot may do there."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from tests.fakes import telegram_wire as wire
from tests.fakes.telegram_wire import Refused

TEXT_LIMIT = 4096
CAPTION_LIMIT = 1024
ACTIONS = frozenset(["typing", "upload_photo", "record_voice", "upload_voice", "upload_document"])
_FILES = {"sendphoto": "photo", "sendvoice": "voice", "senddocument": "document"}
_SENDING = ("chat_id", "message_thread_id", "reply_markup", "reply_parameters", "disable_notification")
_PLAIN = ("text", "entities", "link_preview_options", "protect_content", "parse_mode")
PARAMETERS = {
    "sendmessage": frozenset([*_SENDING, *_PLAIN]),
    "sendmessagedraft": frozenset(["chat_id", "message_thread_id", "draft_id", "text", "entities"]),
    "editmessagetext": frozenset(
        ["chat_id", "message_id", "text", "entities", "reply_markup", "link_preview_options"]
    ),
    "editmessagereplymarkup": frozenset(["chat_id", "message_id", "reply_markup"]),
    "sendchataction": frozenset(["chat_id", "action", "message_thread_id"]),
    "getchatmember": frozenset(["chat_id", "user_id"]),
    **{
        method: frozenset([*_SENDING, name, "caption", "caption_entities", "duration"])
        for method, name in _FILES.items()
    },
}


@dataclass(frozen=True, slots=True)
class SentMessage:
    """What a person got: the text as the bot sent it; `at` is monotonic seconds."""

    chat_id: int
    text: str
    at: float
    entities: tuple[dict[str, Any], ...] = ()
    message_id: int = 0
    thread_id: int | None = None
    reply_to: int | None = None
    buttons: tuple[tuple[tuple[str, str], ...], ...] = ()
    """Rows of (label, data)."""
    silent: bool = False
    kind: str = "text"
    file: tuple[str, bytes] | None = None
    edits: int = 0

    def data_of(self, label: str) -> str:
        """What the button that begins (or ends) so says."""
        found = [data for row in self.buttons for text, data in row if label in text]
        assert len(found) == 1, f"{label}: {self.buttons}"
        return found[0]


@dataclass(frozen=True, slots=True)
class SentDraft:
    chat_id: int
    draft_id: int
    text: str
    at: float


@dataclass
class Limits:
    """core.telegram.org/bots/faq, "My bot is hitting limits", a twentieth more generous: jitter is no breach."""

    sent: dict[str, deque[float]] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)

    def count(self, chat: dict[str, Any]) -> None:
        """Count one message. Raises Refused with 429."""
        of_group = chat["type"] != "private"
        rules = [("all", 31, 1.0), (f"chat {chat['id']}", 4, 1.0)]
        if of_group:
            rules.append((f"group {chat['id']}", 21, 60.0))
        now = time.monotonic()
        for name, most, seconds in rules:
            times = self.sent.setdefault(name, deque())
            while times and now - times[0] > seconds * 0.95:
                times.popleft()
            if len(times) >= most:
                wait = max(1, round(seconds - (now - times[0])))
                self.breaches.append(name)
                raise Refused(429, f"Too Many Requests: retry after {wait}", retry_after=wait)
        for name, _, _ in rules:
            self.sent[name].append(now)


class Chats:
    """`changed` is called whenever something that tests wait for may have become true."""

    def __init__(self, bot: Callable[[], dict[str, Any]]) -> None:
        self._bot = bot
        self.sent: list[SentMessage] = []
        self.edits: list[SentMessage] = []
        self.drafts: list[SentDraft] = []
        self.drafts_offered = True
        self.limits: Limits | None = None
        self.known: dict[int, dict[str, Any]] = {}
        self.topics: set[tuple[int, int]] = set()
        self.blocked: set[int] = set()
        self.left: set[int] = set()
        self.moved: dict[int, int] = {}
        self.managers: set[tuple[int, int]] = set()
        self.messages: dict[tuple[int, int], dict[str, Any]] = {}
        """Everybody's, whole, by chat and message id."""
        self._next_message_ids: Counter[int] = Counter()

    def message_id(self, chat_id: int) -> int:
        self._next_message_ids[chat_id] += 1
        return self._next_message_ids[chat_id]

    # --- what the bot does ------------------------------------------------------------------

    def call(self, method: str, given: dict[str, Any]) -> Any:
        match method:
            case "sendmessage":
                return self._send_text(given)
            case "sendmessagedraft":
                return self._draft(given)
            case "editmessagetext" | "editmessagereplymarkup":
                return self._edit(given, text_too=method == "editmessagetext")
            case "getchatmember":
                return self._member(given)
            case "sendchataction":
                return self._act(given)
        return self._send_file(method, given)

    def _send_text(self, given: dict[str, Any]) -> dict[str, Any]:
        chat = self._chat(given)
        text = self._checked(wire.text(given, "text") or "", TEXT_LIMIT)
        if not text.strip():
            raise Refused(400, "Bad Request: message text is empty")
        sent = SentMessage(chat["id"], text, time.monotonic(), wire.entities(given, text))
        return self._keep(chat, given, sent, {"text": text.strip()})

    def _send_file(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        chat, kind = self._chat(given), _FILES[method]
        file = wire.upload(given, kind)
        if file is None or not file[1]:
            raise Refused(400, f"Bad Request: there is no {kind} in the request")
        caption = wire.text(given, "caption") or ""
        if wire.units(caption) > CAPTION_LIMIT:
            raise Refused(400, "Bad Request: message caption is too long")
        found = wire.entities(given, caption, "caption_entities")
        sent = SentMessage(chat["id"], caption, time.monotonic(), found, kind=kind, file=file)
        name = {"file_id": f"F{len(self.sent)}", "file_unique_id": f"U{len(self.sent)}"}
        shapes: dict[str, Any] = {
            "photo": [{**name, "width": 9, "height": 9}],
            "voice": {**name, "duration": 1},
            "document": {**name, "file_name": file[0]},
        }
        return self._keep(
            chat, given, sent, {kind: shapes[kind], **({"caption": caption} if caption else {})}
        )

    def _keep(
        self, chat: dict[str, Any], given: dict[str, Any], sent: SentMessage, content: dict[str, Any]
    ) -> dict[str, Any]:
        thread_id = wire.whole(given, "message_thread_id", 0) or None
        if thread_id is not None and (chat["id"], thread_id) not in self.topics:
            raise Refused(400, "Bad Request: message thread not found")
        reply_to = self._reply_to(chat["id"], given)
        buttons = wire.keyboard(given)
        if self.limits is not None:
            self.limits.count(chat)
        sent = replace(
            sent,
            message_id=self.message_id(chat["id"]),
            thread_id=thread_id,
            reply_to=reply_to,
            buttons=buttons,
            silent=wire.truth(given, "disable_notification"),
        )
        self.sent.append(sent)
        message = {
            "message_id": sent.message_id,
            "from": self._bot(),
            "chat": chat,
            "date": int(time.time()),
            **content,
        }
        if thread_id is not None:
            message |= {"message_thread_id": thread_id, "is_topic_message": True}
        if buttons:
            message["reply_markup"] = wire.decoded(given, "reply_markup")
        self.messages[chat["id"], sent.message_id] = message
        return message

    def _reply_to(self, chat_id: int, given: dict[str, Any]) -> int | None:
        wanted = wire.decoded(given, "reply_parameters")
        if not wanted:
            return None
        if (chat_id, wanted["message_id"]) in self.messages:
            return int(wanted["message_id"])
        if not wanted.get("allow_sending_without_reply"):
            raise Refused(400, "Bad Request: message to be replied not found")
        return None

    def _edit(self, given: dict[str, Any], *, text_too: bool) -> dict[str, Any]:
        chat, message_id = self._chat(given), wire.whole(given, "message_id", 0)
        place = next(
            (
                index
                for index, sent in enumerate(self.sent)
                if (sent.chat_id, sent.message_id) == (chat["id"], message_id)
            ),
            None,
        )
        if place is None or (chat["id"], message_id) not in self.messages:
            raise Refused(400, "Bad Request: message to edit not found")
        before = self.sent[place]
        changed = replace(before, buttons=wire.keyboard(given))
        if text_too:
            text = self._checked(wire.text(given, "text") or "", TEXT_LIMIT)
            if not text.strip():
                raise Refused(400, "Bad Request: message text is empty")
            changed = replace(changed, text=text, entities=wire.entities(given, text))
        if changed == before:
            raise Refused(
                400,
                "Bad Request: message is not modified: specified new message content and reply markup are "
                "exactly the same as a current content and reply markup of the message",
            )
        if self.limits is not None:
            self.limits.count(chat)
        self.sent[place] = replace(changed, edits=before.edits + 1)
        self.edits.append(replace(changed, at=time.monotonic()))
        message = self.messages[chat["id"], message_id]
        message |= {"text": changed.text.strip(), "edit_date": int(time.time())}
        message.pop("reply_markup", None)
        if changed.buttons:
            message["reply_markup"] = wire.decoded(given, "reply_markup")
        return message

    def _draft(self, given: dict[str, Any]) -> bool:
        if not self.drafts_offered:
            raise Refused(404, "Not Found")
        chat = self._chat(given)
        if chat["type"] != "private":
            raise Refused(400, "Bad Request: chat type is not supported")
        draft_id = wire.whole(given, "draft_id", 0)
        if draft_id == 0:
            raise Refused(400, "Bad Request: draft identifier must be non-zero")
        text = self._checked(wire.text(given, "text") or "", TEXT_LIMIT)
        wire.entities(given, text)
        self.drafts.append(SentDraft(chat["id"], draft_id, text, time.monotonic()))
        return True

    def _member(self, given: dict[str, Any]) -> dict[str, Any]:
        chat, user_id = self._chat(given), wire.whole(given, "user_id", 0)
        user = {"id": user_id, "is_bot": False, "first_name": f"人{user_id}"}
        if (chat["id"], user_id) not in self.managers:
            return {"status": "member", "user": user}
        return {"status": "creator", "user": user, "is_anonymous": False}

    def _act(self, given: dict[str, Any]) -> bool:
        self._chat(given)
        if wire.text(given, "action") not in ACTIONS:
            raise Refused(400, "Bad Request: wrong parameter action in request")
        return True

    def _checked(self, text: str, limit: int) -> str:
        if wire.units(text) > limit:
            raise Refused(400, "Bad Request: message is too long")
        return text

    def _chat(self, given: dict[str, Any]) -> dict[str, Any]:
        wanted = str(given.get("chat_id", ""))
        if not wanted:
            raise Refused(400, "Bad Request: chat_id is empty")
        chat_id = int(wanted) if re.fullmatch(r"-?[0-9]{1,19}", wanted) else 0
        if chat_id in self.moved:
            new = self.moved[chat_id]
            raise Refused(
                400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=new
            )
        chat = self.known.get(chat_id)
        if chat is None:
            raise Refused(400, "Bad Request: chat not found")
        if chat_id in self.blocked:
            raise Refused(403, "Forbidden: bot was blocked by the user")
        if chat_id in self.left:
            raise Refused(403, f"Forbidden: bot was kicked from the {chat['type']} chat")
        return chat
