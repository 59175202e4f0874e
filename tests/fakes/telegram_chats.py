"""The chats of the fake Telegram: who is in them, what was said there, and what the bot may do there."""

from __future__ import annotations

import math
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
AT_ONCE = 3
"""How many a chat takes in one breath, beyond its one a second."""
JITTER = 0.05
_RIGHTS = (
    *("can_be_edited", "is_anonymous", "can_manage_chat", "can_delete_messages", "can_manage_video_chats"),
    *("can_restrict_members", "can_promote_members", "can_change_info", "can_invite_users"),
    *("can_post_stories", "can_edit_stories", "can_delete_stories"),
)
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
    "deletemessage": frozenset(["chat_id", "message_id"]),
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

    clock: Callable[[], float] = time.monotonic
    sent: dict[str, deque[float]] = field(default_factory=dict)
    breaches: list[str] = field(default_factory=list)
    _room: dict[int, tuple[float, float]] = field(default_factory=dict)
    """What a chat could take at once when it last got something: a message more for each second since."""

    def count(self, chat: dict[str, Any]) -> None:
        """Count one message. Raises Refused with 429."""
        rules = [("all", 31, 1.0)]
        if chat["type"] != "private":
            rules.append((f"group {chat['id']}", 21, 60.0))
        now = self.clock()
        for name, most, seconds in rules:
            times = self.sent.setdefault(name, deque())
            while times and now - times[0] > seconds * (1 - JITTER):
                times.popleft()
            if len(times) >= most:
                self._refuse(name, seconds - (now - times[0]))
        room, at = self._room.get(chat["id"], (AT_ONCE + JITTER, now))
        room = min(AT_ONCE + JITTER, room + (now - at) * (1 + JITTER))
        if room < 1:
            self._refuse(f"chat {chat['id']}", 1 - room)
        self._room[chat["id"]] = (room - 1, now)
        for name, _, _ in rules:
            self.sent[name].append(now)

    def _refuse(self, name: str, seconds: float) -> None:
        wait = max(1, math.ceil(seconds))
        self.breaches.append(name)
        raise Refused(429, f"Too Many Requests: retry after {wait}", retry_after=wait)


class Chats:
    """`changed` is called whenever something that tests wait for may have become true."""

    def __init__(self, bot: Callable[[], dict[str, Any]]) -> None:
        self._bot = bot
        self.sent: list[SentMessage] = []
        self.edits: list[SentMessage] = []
        self.deleted: list[tuple[int, int]] = []
        """Chat and message id of what the bot took back."""
        self.drafts: list[SentDraft] = []
        self.drafts_offered = True
        self.limits: Limits | None = None
        self.known: dict[int, dict[str, Any]] = {}
        self.topics: set[tuple[int, int]] = set()
        self.blocked: set[int] = set()
        self.left: set[int] = set()
        self.moved: dict[int, int] = {}
        self.managers: set[tuple[int, int]] = set()
        """Who made a group. `admins`: to whom they gave rights."""
        self.admins: set[tuple[int, int]] = set()
        self.messages: dict[tuple[int, int], dict[str, Any]] = {}
        """Everybody's, whole, by chat and message id: never changed in place, updates that are under way hold them."""
        self._next_message_ids: Counter[int] = Counter()

    def message_id(self, chat_id: int) -> int:
        self._next_message_ids[chat_id] += 1
        return self._next_message_ids[chat_id]

    def shown(self, chat_id: int, message_id: int) -> dict[str, Any]:
        """A message as a press on its button shows it: once it is deleted, inaccessible."""
        gone = {"chat": self.known[chat_id], "message_id": message_id, "date": 0}
        return self.messages.get((chat_id, message_id), gone)

    def earlier(self, chat_id: int, message_id: int) -> dict[str, Any]:
        """A message as one that answers it shows it: without what it answers itself (Bot API, Message)."""
        message = self.messages[chat_id, message_id]
        return {name: value for name, value in message.items() if name != "reply_to_message"}

    def place(self, chat: dict[str, Any], thread_id: int | None, reply_to: int | None) -> dict[str, Any]:
        """Where a message stands: its topic, what it answers, and the thread that answers make.

        Two traps of the real one: outside topics an answer has a `message_thread_id` too, which nothing can be
        sent to, and in a topic what answers nothing answers the message that the topic began with.
        """
        where: dict[str, Any] = {}
        if reply_to is not None:
            where["reply_to_message"] = self.earlier(chat["id"], reply_to)
        if thread_id is not None:
            where |= {"message_thread_id": thread_id, "is_topic_message": True}
            if chat["type"] == "supergroup":
                where.setdefault("reply_to_message", self._first_of(chat, thread_id))
        elif reply_to is not None and chat["type"] == "supergroup":
            root = self.messages[chat["id"], reply_to].get("message_thread_id", reply_to)
            where["message_thread_id"] = root
        return where

    def _topic_of(self, chat_id: int, message_id: int) -> int | None:
        message = self.messages[chat_id, message_id]
        return int(message["message_thread_id"]) if message.get("is_topic_message") else None

    def _first_of(self, chat: dict[str, Any], thread_id: int) -> dict[str, Any]:
        """The service message that a topic begins with: its id is the topic's."""
        return {
            "message_id": thread_id,
            "from": {"id": 1, "is_bot": False, "first_name": "人1"},
            "chat": chat,
            "date": 1_700_000_000,
            "message_thread_id": thread_id,
            "is_topic_message": True,
            "forum_topic_created": {"name": f"话题{thread_id}", "icon_color": 7322096},
        }

    # --- what the bot does ------------------------------------------------------------------

    def call(self, method: str, given: dict[str, Any]) -> Any:
        match method:
            case "sendmessage":
                return self._send_text(given)
            case "sendmessagedraft":
                return self._draft(given)
            case "editmessagetext" | "editmessagereplymarkup":
                return self._edit(given, text_too=method == "editmessagetext")
            case "deletemessage":
                return self._delete(given)
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
        return self._keep(chat, given, sent, _shown("text", sent))

    def _send_file(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        chat, kind = self._chat(given), _FILES[method]
        file = wire.upload(given, kind)
        if file is None or not file[1]:
            raise Refused(400, f"Bad Request: there is no {kind} in the request")
        wire.whole(given, "duration", 0)
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
        return self._keep(chat, given, sent, {kind: shapes[kind], **_shown("caption", sent)})

    def _keep(
        self, chat: dict[str, Any], given: dict[str, Any], sent: SentMessage, content: dict[str, Any]
    ) -> dict[str, Any]:
        thread_id, reply_to = self._thread(chat, given), self._reply_to(chat["id"], given)
        if thread_id is None and reply_to is not None:
            thread_id = self._topic_of(chat["id"], reply_to)
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
            **self.place(chat, thread_id, reply_to),
            **content,
        }
        if buttons:
            message["reply_markup"] = wire.decoded(given, "reply_markup")
        self.messages[chat["id"], sent.message_id] = message
        return message

    def _thread(self, chat: dict[str, Any], given: dict[str, Any]) -> int | None:
        thread_id = wire.whole(given, "message_thread_id", 0) or None
        if thread_id is not None and (chat["id"], thread_id) not in self.topics:
            raise Refused(400, "Bad Request: message thread not found")
        return thread_id

    def _reply_to(self, chat_id: int, given: dict[str, Any]) -> int | None:
        wanted = wire.answered(given)
        if wanted is None:
            return None
        message_id, may_be_missing = wanted
        if (chat_id, message_id) in self.messages:
            return message_id
        if not may_be_missing:
            raise Refused(400, "Bad Request: message to be replied not found")
        return None

    def _edit(self, given: dict[str, Any], *, text_too: bool) -> dict[str, Any]:
        chat, message_id = self._chat(given), wire.whole(given, "message_id", 0)
        place, before = self._own(chat["id"], message_id)
        changed = replace(before, buttons=wire.keyboard(given))
        if text_too:
            if before.kind != "text":
                raise Refused(400, "Bad Request: there is no text in the message to edit")
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
        message = {**self.messages[chat["id"], message_id], "edit_date": int(time.time())}
        if text_too:
            message.pop("entities", None)
            message |= _shown("text", changed)
        message.pop("reply_markup", None)
        if changed.buttons:
            message["reply_markup"] = wire.decoded(given, "reply_markup")
        self.messages[chat["id"], message_id] = message
        return message

    def _own(self, chat_id: int, message_id: int) -> tuple[int, SentMessage]:
        """A message of the bot's that is still there, and its place in `sent`."""
        if (chat_id, message_id) not in self.messages:
            raise Refused(400, "Bad Request: message to edit not found")
        for place in range(len(self.sent) - 1, -1, -1):
            if (self.sent[place].chat_id, self.sent[place].message_id) == (chat_id, message_id):
                return place, self.sent[place]
        raise Refused(400, "Bad Request: message can't be edited")

    def _delete(self, given: dict[str, Any]) -> bool:
        """In a group, others' messages are an administrator's to delete."""
        chat, message_id = self._chat(given), wire.whole(given, "message_id", 0)
        message = self.messages.get((chat["id"], message_id))
        if message is None:
            raise Refused(400, "Bad Request: message to delete not found")
        me = self._bot()["id"]
        others = chat["type"] != "private" and message["from"]["id"] != me
        if others and (chat["id"], me) not in self.admins:
            raise Refused(400, "Bad Request: message can't be deleted")
        del self.messages[chat["id"], message_id]
        self.deleted.append((chat["id"], message_id))
        return True

    def _draft(self, given: dict[str, Any]) -> bool:
        if not self.drafts_offered:
            raise Refused(404, "Not Found")
        chat = self._chat(given)
        if chat["type"] != "private":
            raise Refused(400, "Bad Request: TEXTDRAFT_PEER_INVALID")
        draft_id = wire.whole(given, "draft_id", 0)
        if draft_id == 0:
            raise Refused(400, "Bad Request: draft identifier must be non-zero")
        text = self._checked(wire.text(given, "text") or "", TEXT_LIMIT)
        wire.entities(given, text)
        self._thread(chat, given)
        self.drafts.append(SentDraft(chat["id"], draft_id, text, time.monotonic()))
        return True

    def _member(self, given: dict[str, Any]) -> dict[str, Any]:
        chat, user_id = self._chat(given), wire.whole(given, "user_id", 0)
        if user_id <= 0:
            raise Refused(400, "Bad Request: invalid user_id specified")
        me = self._bot()
        user = me if user_id == me["id"] else {"id": user_id, "is_bot": False, "first_name": f"人{user_id}"}
        if (chat["id"], user_id) in self.managers:
            return {"status": "creator", "user": user, "is_anonymous": False}
        if (chat["id"], user_id) in self.admins:
            return {"status": "administrator", "user": user, **dict.fromkeys(_RIGHTS, False)}
        return {"status": "member", "user": user}

    def _act(self, given: dict[str, Any]) -> bool:
        self._thread(self._chat(given), given)
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


def _shown(name: str, sent: SentMessage) -> dict[str, Any]:
    """A text or caption as the message has it: without blanks around it, which the marks are moved for."""
    text = sent.text.strip()
    if not text:
        return {}
    before = wire.units(sent.text[: len(sent.text) - len(sent.text.lstrip())])
    end = wire.units(text)
    marks = []
    for entity in sent.entities:
        start = max(0, entity["offset"] - before)
        length = min(end, entity["offset"] + entity["length"] - before) - start
        if length > 0:
            marks.append({**entity, "offset": start, "length": length})
    marked = {"entities" if name == "text" else "caption_entities": marks} if marks else {}
    return {name: text, **marked}
