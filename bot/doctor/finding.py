"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. `name` is for programs and stays; `found` and `advice` hold no secret and nothing a person wrote."""

    name: str
    state: State
    found: str
    advice: str = ""
    """What to do where the state is not ok."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a fixed word of storage, a model or a platform means to the operator."""

    state: State
    found: str
    advice: str
