"""Somebody who follows the feed of changes, as a product does."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from referral.background.relay import RELAY
from tests.support.people import Answer, Person

Change = dict[str, Any]


@dataclass
class Follower:
    """A reader of the feed, where they go on, and all that they have seen of it, in its order."""

    reader: Person
    after: int = 0
    seen: list[Change] = field(default_factory=list)

    async def ask(self, **query: str | int) -> Answer:
        """Ask for changes with these parameters, which `after` is not among unless it is given."""
        return await self.reader.get("/changes", params={name: str(value) for name, value in query.items()})

    async def read(self, **query: str | int) -> list[Change]:
        """One page of what is behind, which is behind no more."""
        answer = await self.ask(after=self.after, **query)
        assert answer.status == 200, answer.body
        assert answer.body["last_seq"] >= self.after
        self.after = answer.body["last_seq"]
        self.seen += answer.body["items"]
        return list(answer.body["items"])

    async def news(self) -> list[Change]:
        """Everything that is behind, and has been announced until now."""
        assert self.reader.client.app
        while await self.reader.client.app[RELAY].work_off():
            pass
        found: list[Change] = []
        before = -1
        while before < self.after:
            before = self.after
            found += await self.read(limit=100)
        return found

    def check(self) -> None:
        """Nothing of what they have seen is missing, twice or out of order."""
        check(self.seen)


def check(seen: list[Change]) -> None:
    """All changes from the first one on are there once: the feed has no gaps, and neither have the versions of a subject."""
    assert [change["seq"] for change in seen] == list(range(1, len(seen) + 1))
    assert len({change["id"] for change in seen}) == len(seen)
    versions: Counter[str] = Counter()
    for change in seen:
        versions[change["subject_id"]] += 1
        assert change["version"] == versions[change["subject_id"]], change


def kinds(changes: list[Change]) -> list[str]:
    """What has happened, in the order of the feed."""
    return [change["type"] for change in changes]


def of(changes: list[Change], kind: str) -> Change:
    """The one change of this type."""
    (found,) = [change for change in changes if change["type"] == kind]
    return found
