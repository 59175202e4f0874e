"""Taking a model's thinking aloud out of its answer.

Some servers (Ollama, llama.cpp, older vLLM) stream a reasoning model's thoughts as text, in a
`<think>` block at the head of the answer. They are not for the person.
"""

from __future__ import annotations

OPEN, CLOSE = "<think>", "</think>"


class ThinkingStripper:
    """Feed it the text as it comes; it gives back what the person may see."""

    def __init__(self) -> None:
        self._held = ""
        self._thinking = False
        self._begun = False
        """Whether the answer proper has begun: from then on everything passes."""

    def feed(self, text: str) -> str:
        if self._begun:
            return text
        self._held = (self._held + text).lstrip()
        if not self._thinking and self._held.startswith(OPEN):
            self._thinking = True
            self._held = self._held[len(OPEN) :]
        if self._thinking:
            return self._after_thinking()
        if OPEN.startswith(self._held):  # nothing yet, or what may become the mark
            return ""
        return self._begin(self._held)

    def end(self) -> str:
        """What was held back in case it became a mark."""
        return "" if self._thinking else self._held

    def _after_thinking(self) -> str:
        _, closed, answer = self._held.partition(CLOSE)
        if not closed:
            self._held = self._held[-len(CLOSE) :]  # all that a split end mark can need
            return ""
        self._thinking, self._held = False, ""
        return self.feed(answer)

    def _begin(self, answer: str) -> str:
        self._begun, self._held = True, ""
        return answer
