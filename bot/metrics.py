"""What is measured, for Prometheus. Labels are bounded: platforms, outcomes, models, routes; never people."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from core.messages import Platform
from core.model.events import ModelUsage

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """Implements core.ports.Measures, and counts requests for the server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._accepted = Counter(
            "xinyu_messages_accepted_total", "Messages stored", ["platform"], registry=registry
        )
        self._turns = Histogram(
            "xinyu_turn_seconds",
            "From a turn's first message to its stored answer",
            ["platform", "outcome"],
            buckets=SECONDS,
            registry=registry,
        )
        self._broken = Counter(
            "xinyu_turns_broken_total", "Turns to be run again, by why", ["reason"], registry=registry
        )
        self._first_token = Histogram(
            "xinyu_model_first_token_seconds",
            "Until a model's first token",
            ["model"],
            buckets=SECONDS,
            registry=registry,
        )
        self._tokens = Counter("xinyu_model_tokens_total", "Tokens", ["model", "kind"], registry=registry)
        self._model_failures = Counter(
            "xinyu_model_failures_total", "Turns without a model's answer", ["reason"], registry=registry
        )
        self._deliveries = Counter(
            "xinyu_deliveries_total",
            "Deliveries by what became of them",
            ["platform", "outcome"],
            registry=registry,
        )
        self._feedback = Counter(
            "xinyu_feedback_total", "Reactions and buttons on answers", ["verdict"], registry=registry
        )
        self._requests = Histogram(
            "xinyu_http_request_seconds",
            "HTTP requests",
            ["method", "route", "status"],
            buckets=SECONDS,
            registry=registry,
        )

    def accepted(self, platform: Platform) -> None:
        self._accepted.labels(platform.value).inc()

    def turn_broke(self, reason: str) -> None:
        self._broken.labels(reason).inc()

    def turn_finished(self, platform: Platform, outcome: str, seconds: float) -> None:
        self._turns.labels(platform.value, outcome).observe(seconds)

    def model_answered(self, usage: ModelUsage) -> None:
        self._first_token.labels(usage.model).observe(usage.first_token_ms / 1000)
        self._tokens.labels(usage.model, "prompt").inc(usage.prompt_tokens)
        self._tokens.labels(usage.model, "cached").inc(usage.cached_tokens)
        self._tokens.labels(usage.model, "completion").inc(usage.completion_tokens)

    def model_failed(self, reason: str) -> None:
        self._model_failures.labels(reason).inc()

    def delivered(self, platform: Platform, outcome: str) -> None:
        self._deliveries.labels(platform.value, outcome).inc()

    def feedback_given(self, verdict: str) -> None:
        self._feedback.labels(verdict).inc()

    def request_served(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method, route, str(status)).observe(seconds)
