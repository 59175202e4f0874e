"""Commands in words, for platforms that have neither slash commands nor buttons: 「设置」 is the command `settings`
there, and what a button would do is done by whoever says its words. Both languages are understood at any time.

Only a whole message is ever a command: a sentence with such a word in it is talk, and belongs to the model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from core.commands.asked import ARGUMENT_CHARACTERS, COMMANDS, IN_WORDS_ONLY, Asked, Done, command_of
from core.language import Language, language_of
from core.messages import Button, Command, Platform, Segment
from core.phrases import Phrases, load_phrases

WORDED = frozenset({Platform.WECHAT})
"""Platforms without slash commands and buttons."""
FREE_VALUES = frozenset({"timezone", "quiet"})
"""Settings that take more than is listed."""
_ANSWERS = {
    "consent yes": "start.agree",
    "consent no": "start.decline",
    "delete_me yes": "delete_me.yes",
    "delete_me no": "delete_me.no",
}
"""Answers to questions of ours: the buttons' commands, and the labels that are their words."""
_SEPARATORS = re.compile(r"[\s:=·,]+")
"""Between a setting, its name and its value, once NFKC has made ： ＝ ， narrow."""
_ENDING = " 。!.~"
_QUOTES = '「」“”"'
"""As we show the words: people type what they see."""


# --- what people say ----------------------------------------------------------------------------


def command_in_words(text: str, message_id: str | None = None) -> Command | None:
    """The command that a whole message is: 「导出」, 「设置：语言：英文」, `settings wait long`, a label, `/export`.

    None if it is none of ours. The argument of `settings` comes in raw words: `language en`.
    """
    typed = command_of(text, message_id)
    if typed is not None:
        in_raw = _raw_setting(_tokens(_plain(typed.argument))) if typed.name == "settings" else None
        return replace(typed, argument=in_raw or typed.argument)
    said, known = _plain(text).strip(_QUOTES), _vocabulary()
    found = known.commands.get(said.casefold())
    if found is not None:
        return replace(found, message_id=message_id)
    first, *rest = _tokens(said) or [""]
    if known.commands.get(first.casefold()) != Command("settings"):
        return None
    argument = _raw_setting(rest)
    return Command("settings", argument, message_id) if argument is not None else None


def in_the_language_of_their_words(asked: Asked) -> Asked:
    """Who says a command in words has said something: it is answered in their words' language, unless they chose one.

    (A slash command's letters say nothing of the language that its writer speaks.)
    """
    said = asked.by.message.text
    if asked.conversation.person.language is not None or said.lstrip().startswith("/"):
        return asked
    return asked.speaking(language_of(said, asked.by.message.language))


def _plain(text: str) -> str:
    """The text whatever its width, its blanks and its last punctuation; phones write ' as ’."""
    narrow = unicodedata.normalize("NFKC", text).replace("’", "'")
    return " ".join(narrow.split()).rstrip(_ENDING)


def _tokens(said: str) -> list[str]:
    """Its parts. The first is empty where it begins with a separator: nobody begins a setting so."""
    parts = _SEPARATORS.split(said)
    return parts if parts[-1] else parts[:-1]


def _folded(tokens: Iterable[str]) -> str:
    return " ".join(tokens).casefold()


def _raw_setting(tokens: Sequence[str]) -> str | None:
    """`language en` of 语言 英文; None if it names no setting, or goes on as a sentence would."""
    known = _vocabulary()
    for length in range(len(tokens), 0, -1):  # "time zone" before anything called "time"
        name = known.settings.get(_folded(tokens[:length]))
        if name is None:
            continue
        value = _raw_value(known, name, tokens[length:])
        argument = f"{name} {value}".strip()
        return argument if value is not None and len(argument) <= ARGUMENT_CHARACTERS else None
    return None


def _raw_value(known: _Vocabulary, name: str, tokens: Sequence[str]) -> str | None:
    listed = known.values[name].get(_folded(tokens))
    if listed is not None:
        return listed
    # One word that is not listed is a mistake, and told what would be right.
    return " ".join(tokens) if name in FREE_VALUES or len(tokens) <= 1 else None


# --- what we say --------------------------------------------------------------------------------


def worded(done: Done, asked: Asked) -> Done:
    """The same where nobody can type a slash or press a button: it tells the words, and nothing is changed in place."""
    speaking = asked if done.language is None else asked.speaking(done.language)
    return replace(done, segments=tuple(_segment(segment, speaking) for segment in done.segments))


def words_for(command: str, phrases: Phrases, between: str) -> str | None:
    """The words that say a button's command, `settings language=en` 设置：语言：English; None if nothing says it."""
    if command in _ANSWERS:
        return _label(phrases, _ANSWERS[command])
    name, _, argument = command.partition(" ")
    words: dict[str, list[str]] = phrases.commands["words"]
    if name not in words:
        return None
    return between.join([words[name][0], *_setting_in_words(argument, phrases)])


def _setting_in_words(argument: str, phrases: Phrases) -> Iterator[str]:
    """A setting's name and its value, where they are given, as labelled."""
    name, _, value = argument.replace("=", " ").partition(" ")
    if name:
        # Within a command, where it stands in the middle, an English label has no capital.
        yield _one_word(phrases.commands["setting"].get(name, name), name).lower()
    if value:
        yield _one_word(phrases.commands["value"].get(name, {}).get(value, value), value)


def _one_word(label: str, raw: str) -> str:
    """The label, if it is one word: of several nobody could tell where they end."""
    return label if _tokens(_plain(label)) == [label] else raw


def _segment(segment: Segment, asked: Asked) -> Segment:
    spoken = asked.phrases.commands["spoken"]
    rows = tuple(
        tuple(Button(button.label, _say(button.command, asked.phrases, spoken["between"])) for button in row)
        for row in segment.rows
    )
    return replace(segment, text=_in_quotes(segment.text, asked), buttons=rows, choices=(), replaces=None)


def _say(command: str, phrases: Phrases, between: str) -> str:
    return words_for(command, phrases, between) or command


def _in_quotes(text: str, asked: Asked) -> str:
    """The text with 「导出」 for each `/export`."""
    quoted: str = asked.phrases.commands["spoken"]["quoted"]

    def instead(found: re.Match[str]) -> str:
        words = quoted.format(words=_say(found["command"], asked.phrases, " "))
        # Chinese quotation marks bring their own space.
        return words if asked.language is Language.ZH else f"{found['before']}{words}{found['after']}"

    return _vocabulary().slashes.sub(instead, text)


# --- what is understood -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """All that is understood, folded, in both languages at once."""

    commands: Mapping[str, Command]
    """Whole messages."""
    settings: Mapping[str, str]
    """What each setting is called."""
    values: Mapping[str, Mapping[str, str]]
    """What the listed values of each setting are called."""
    slashes: re.Pattern[str]
    """A slash command within a text of ours."""


@cache
def _vocabulary() -> _Vocabulary:
    languages = tuple(load_phrases().values())
    names = tuple(languages[0].commands["value"])  # what takes other values has no words
    return _Vocabulary(
        commands=dict(_whole_messages(languages)),
        settings={_folded(_tokens(_plain(word))): name for word, name in _setting_names(languages)},
        values={
            name: {_folded(_tokens(_plain(word))): raw for word, raw in _value_names(name, languages)}
            for name in names
        },
        slashes=_slashes(names),
    )


def _whole_messages(languages: Sequence[Phrases]) -> Iterator[tuple[str, Command]]:
    for phrases in languages:
        for name, words in phrases.commands["words"].items():
            yield from ((_plain(word).casefold(), Command(name)) for word in words)
        for command, label in _ANSWERS.items():
            name, _, answer = command.partition(" ")
            yield _plain(_label(phrases, label)).casefold(), Command(name, answer)


def _setting_names(languages: Sequence[Phrases]) -> Iterator[tuple[str, str]]:
    for phrases in languages:
        for name in phrases.commands["value"]:
            yield phrases.commands["setting"][name], name
            yield name, name


def _value_names(name: str, languages: Sequence[Phrases]) -> Iterator[tuple[str, str]]:
    for phrases in languages:
        for raw, label in phrases.commands["value"][name].items():
            yield label, raw
            yield raw, raw
        for raw, others in phrases.commands["also"].get(name, {}).items():
            yield from ((other, raw) for other in others)


def _slashes(settings: Sequence[str]) -> re.Pattern[str]:
    """Only `settings` takes anything with it: what follows the others is the rest of the sentence."""
    others = "|".join(name for name in (*COMMANDS, *IN_WORDS_ONLY) if name != "settings")
    setting = rf"settings(?: (?:{'|'.join(settings)})(?: [A-Za-z0-9_/+-]+)?)?"
    return re.compile(
        rf"(?P<before> ?)(?<![A-Za-z0-9_/])/(?P<command>{setting}|{others})(?![A-Za-z0-9_/])(?P<after> ?)"
    )


def _label(phrases: Phrases, name: str) -> str:
    table, _, key = name.partition(".")
    label: str = phrases.commands[table][key]
    return label
