"""The turn: everything the bot does for the messages that arrived together, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from core.commands.asked import Asked, Done
from core.commands.run import run_command
from core.errors import OF_THE_PROMPT, ModelUnavailable
from core.ids import new_id
from core.language import Language, language_of
from core.messages import ConversationKind, Source
from core.model.events import Finished, ModelUsage, PromptMessage, Restarted, TextDelta
from core.persona.card import Personas
from core.phrases import ListenerMood, Phrases
from core.ports import ClaimedConversation, Clock, Measures, Model, Pending, Store
from core.prompt import build_prompt
from core.safety.protocol import Protocols
from core.safety.rules import Risk, assess, risk_of

log = structlog.get_logger()

MayManage = Callable[[str, str], Awaitable[bool]]
"""Whether somebody (a platform user id) is an administrator of a chat. Raises as Sender.may_manage."""
CLAIMS_BEFORE_LISTENER = 10
"""A turn that was begun this often and never finished (it may be what kills us) is not tried again.

Not fewer: whoever else was being answered when the process died counts as begun, too.
"""


class Audience(Protocol):
    """Whoever watches the answer come into being."""

    def begin(self, turn_id: int) -> None: ...
    def append(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class TurnParts:
    """What a turn works with."""

    model: Model
    personas: Personas
    phrases: dict[Language, Phrases]
    protocols: Protocols
    window_tokens: int
    measures: Measures
    store: Store
    default_zone: str
    """The time zone of people who chose none."""
    clock: Clock


@dataclass(frozen=True, slots=True)
class Draft:
    """A turn's answer before it is committed."""

    turn_id: int
    text: str
    source: Source
    usage: ModelUsage | None
    outcome: str
    done: Done | None = None
    """A command's answer: segments instead of the text, and what is to be changed."""

    @property
    def written(self) -> bool:
        """Whether what was said and the answer go into the history."""
        return self.done is None or self.done.written

    @property
    def defer(self) -> bool:
        """Whether a real answer is still owed."""
        return self.outcome == "deferred"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is local and done before the model is asked."""

    language: Language
    risk: Risk
    last: Pending
    """The newest message: a command stands alone."""
    prompt: list[PromptMessage]


def prepare(parts: TurnParts, conversation: ClaimedConversation, messages: Sequence[Pending]) -> Prepared:
    """The local half of a turn: safety, (mood, memories, knowledge as their rooms are built,) the prompt."""
    said = "\n".join(pending.message.text for pending in messages)
    last = messages[-1].message
    # A command's letters say nothing of the language that its writer speaks.
    chosen = conversation.settings.language or conversation.person.language
    language = chosen or language_of("" if last.command else said, last.language)
    return Prepared(
        language=language,
        risk=_risk(said, messages),
        last=messages[-1],
        prompt=build_prompt(
            parts.personas.of(conversation.settings.persona),
            parts.phrases,
            conversation.window,
            messages,
            language=language,
            speaks=chosen,
            group=conversation.kind is ConversationKind.GROUP,
            late=not conversation.pending,
            budget_tokens=parts.window_tokens,
        ),
    )


def _risk(said: str, messages: Sequence[Pending]) -> Risk:
    """Of what was said as a whole: a statement may be typed in pieces."""
    alone = any(risk_of(pending.message) is Risk.HIGH for pending in messages)
    return Risk.HIGH if alone else assess(said)


async def answer(
    parts: TurnParts,
    conversation: ClaimedConversation,
    prepared: Prepared,
    audience: Audience,
    may_manage: MayManage,
) -> Draft:
    """The answer: decided locally in danger, a command's, else the model's, else the listener's.

    Raises ModelUnavailable only for a late answer, which has nothing to fall back on: it is simply
    tried again later.
    """
    if prepared.risk is Risk.HIGH:
        return _protocol(parts, prepared, audience)
    if conversation.attempts > CLAIMS_BEFORE_LISTENER:
        log.error("turn_given_up", conversation_id=conversation.id, attempts=conversation.attempts)
        return _listen(parts, prepared, audience, ListenerMood.DECLINED)
    if prepared.last.message.command is not None and not await _is_talk(parts, conversation, prepared):
        return await _obey(parts, conversation, prepared, may_manage)
    try:
        return await _ask_model(parts, prepared, audience)
    except ModelUnavailable as error:
        parts.measures.model_failed(error.reason)
        log.warning("model_unavailable", conversation_id=conversation.id, reason=error.reason)
        if not conversation.pending and error.reason not in OF_THE_PROMPT:
            raise
        return _listen(parts, prepared, audience, _mood(conversation, error))


async def _is_talk(parts: TurnParts, conversation: ClaimedConversation, prepared: Prepared) -> bool:
    """Whether a 「继续」 asks the companion to go on talking: nothing was kept back that it could ask for."""
    message = prepared.last.message
    if message.command is None or message.command.name != "more" or not message.text:
        return False
    owed = await parts.store.read(lambda tx: tx.deliveries.is_owed(conversation.id, message.event_id))
    return not owed


async def _obey(
    parts: TurnParts,
    conversation: ClaimedConversation,
    prepared: Prepared,
    may_manage: MayManage,
) -> Draft:
    by = prepared.last
    assert by.message.command is not None
    asked = Asked(
        command=by.message.command,
        conversation=conversation,
        by=by,
        language=prepared.language,
        every_phrases=parts.phrases,
        personas=parts.personas,
        now=parts.clock.now(),
        default_zone=parts.default_zone,
        store=parts.store,
        may_manage=may_manage,
    )
    done = await run_command(asked)
    if asked.command.message_id is not None:  # a button says nothing, and changes what is there already
        done = replace(done, written=False)
    text = "\n\n".join(segment.text for segment in done.segments if segment.text) if done.written else ""
    return Draft(new_id(), text, Source.COMMAND, None, "command", done)


async def _ask_model(parts: TurnParts, prepared: Prepared, audience: Audience) -> Draft:
    turn_id = new_id()
    audience.begin(turn_id)
    pieces: list[str] = []
    async with aclosing(parts.model.stream(prepared.prompt)) as events:
        async for event in events:
            match event:
                case TextDelta(text):
                    pieces.append(text)
                    audience.append(text)
                case Restarted():
                    turn_id = new_id()
                    audience.begin(turn_id)
                    pieces.clear()
                case Finished(usage):
                    parts.measures.model_answered(usage)
                    return Draft(turn_id, "".join(pieces), Source.MODEL, usage, "answered")
    raise ModelUnavailable("no_end")


def _mood(conversation: ClaimedConversation, error: ModelUnavailable) -> ListenerMood:
    if error.reason in OF_THE_PROMPT:  # this very text will be refused again: promise nothing
        return ListenerMood.DECLINED
    return ListenerMood.STILL_UNAVAILABLE if conversation.deferred else ListenerMood.UNAVAILABLE


def _listen(parts: TurnParts, prepared: Prepared, audience: Audience, mood: ListenerMood) -> Draft:
    turn_id = new_id()
    text = parts.phrases[prepared.language].listener_says(mood, turn_id)
    outcome = "declined" if mood is ListenerMood.DECLINED else "deferred"
    return _say(audience, Draft(turn_id, text, Source.LISTENER, None, outcome))


def _protocol(parts: TurnParts, prepared: Prepared, audience: Audience) -> Draft:
    text = parts.protocols.text(prepared.risk, prepared.language)
    return _say(audience, Draft(new_id(), text, Source.PROTOCOL, None, "safety"))


def _say(audience: Audience, draft: Draft) -> Draft:
    audience.begin(draft.turn_id)
    audience.append(draft.text)
    return draft
