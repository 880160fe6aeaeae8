"""What `/metrics` tells Prometheus. One registry an application: two of them in one process do not add up."""

import asyncio
import os
import time

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

# In seconds, from a cached look-up to a login that waits for bcrypt.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

# Seconds after which the metrics that another worker tells include a request.
LAG = 1.0
# Requests that are written down together, which takes some tenths of a millisecond.
AT_ONCE = 200
# A text is told again for so many times as long as it took to make: however many ask, it takes a tenth of the time.
TOLD_AGAIN = 10


class Metrics:
    """The counters of one application; labels take values of a known few only, for each is kept for ever."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._being_answered = 0
        self._answered: list[tuple[str, str, int, float]] = []
        self._hits = 0
        self._timer: asyncio.TimerHandle | None = None
        self._text, self._text_until = b"", 0.0
        self.requests = Counter(
            "referral_requests_total", "Answered requests.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "referral_request_seconds",
            "Time from a request's head to its answer.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.in_progress = Gauge(
            "referral_requests_in_progress",
            "Requests being answered now.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self.cache = Counter(
            "referral_cache_lookups_total", "Look-ups of active codes.", ("result",), registry=self.registry
        )
        self.mail = Counter("referral_mail_total", "Mail by what became of it.", ("kind", "result"), registry=self.registry)
        self.registrations = Counter(
            "referral_registrations_total", "Accounts made.", ("by_referral",), registry=self.registry
        )
        self.clicks = Counter(
            "referral_clicks_total",
            "Clicks on share links: by people (click), by robots, more than an address may make (limited), more than can be "
            "written (dropped), and those while nobody could look the code up (unknown).",
            ("result",),
            registry=self.registry,
        )
        self.email_checks = Counter(
            "referral_email_checks_total", "Checks of addresses at registrations.", ("result",), registry=self.registry
        )
        self.enrichments = Counter(
            "referral_enrichments_total", "Look-ups of profiles by what became of them.", ("result",), registry=self.registry
        )
        self.deliveries = Counter(
            "referral_webhook_attempts_total",
            "Attempts to send a change to a webhook by what became of the delivery.",
            ("result",),
            registry=self.registry,
        )
        self.deliveries_waiting = Gauge(
            "referral_webhook_deliveries_waiting",
            "Deliveries that wait, counted up to 100,000.",
            multiprocess_mode="mostrecent",
            registry=self.registry,
        )
        self.delivery_age = Gauge(
            "referral_webhook_oldest_waiting_seconds",
            "The age of the change that has waited longest to be delivered.",
            multiprocess_mode="mostrecent",
            registry=self.registry,
        )

    def began(self) -> None:
        """A request is being answered from now on."""
        self._being_answered += 1
        self._write_soon()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count and time one request, and see it end."""
        self._being_answered -= 1
        self._answered.append((method, route, status, seconds))
        self._write_soon()

    def hit(self) -> None:
        """Count a look-up that the cache answered. Hits are written down together with their requests, because almost every
        look-up is one. Misses and failures are rare and counted at once."""
        self._hits += 1

    def _write_soon(self) -> None:
        if len(self._answered) >= AT_ONCE:
            self.write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LAG, self.write)

    def write(self) -> None:
        """Write down the requests since the last time. Several are written at once: the library's code takes 7 % of a
        look-up's time when it runs for each of them between other things."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.in_progress.set(self._being_answered)
        self.cache.labels("hit").inc(self._hits)
        self._hits = 0
        answered, self._answered = self._answered, []
        for method, route, status, seconds in answered:
            # The library's look-up of the labels' children costs more than both counts.
            children = self._children.get((method, route, status))
            if children is None:
                children = self.requests.labels(method, route, status), self.seconds.labels(method, route)
                self._children[method, route, status] = children
            children[0].inc()
            children[1].observe(seconds)

    def text(self) -> bytes:
        """The Prometheus text format, version 0.0.4; summed over the workers where there are several (`workers.py`)."""
        began = time.monotonic()
        if began >= self._text_until:
            self._text = self._make_text()
            ended = time.monotonic()
            self._text_until = ended + TOLD_AGAIN * (ended - began)
        return self._text

    def _make_text(self) -> bytes:
        self.write()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        summed = CollectorRegistry()
        MultiProcessCollector(summed)  # type: ignore[no-untyped-call]
        return generate_latest(summed)


METRICS = web.AppKey("metrics", Metrics)
