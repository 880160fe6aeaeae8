"""What people are called at the back office, and the link to whoever is named."""

from collections.abc import Callable, Mapping
from typing import Protocol

from markupsafe import Markup

from referral.web.admin_texts import Texts

# Characters of a name in a sentence.
LONGEST_CALLED = 60


class HasNames(Protocol):
    """Somebody with whatever they may be called by."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str | None: ...
    @property
    def email(self) -> str | None: ...
    @property
    def external_id(self) -> str | None: ...
    @property
    def username(self) -> str | None: ...
    @property
    def erased_at(self) -> int | None: ...


def called(user: HasNames) -> str:
    """What a user is called: by the name, else by the address, the product's own id, the username, and at last by the id."""
    return user.name or user.email or user.external_id or user.username or user.id


def shortened(text: str, longest: int = LONGEST_CALLED) -> str:
    """The text, of which no more than so many characters are shown."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def theirs(text: str) -> Markup:
    """What somebody else has written, in whatever direction, as part of a sentence."""
    return Markup('<bdi class="theirs">{}</bdi>').format(text)


def link_to(user: HasNames, path: Callable[[str], str], texts: Texts) -> Markup:
    """A link to the user's page, by what they are called."""
    _ = texts
    if user.erased_at is not None:
        return Markup('<a class="user" href="{}">{}</a>').format(path(f"/admin/users/{user.id}"), _("an erased user"))
    return Markup('<a class="user" href="{}"><bdi>{}</bdi></a>').format(
        path(f"/admin/users/{user.id}"), shortened(called(user))
    )


def link_to_id(user_id: str, names: Mapping[str, HasNames], path: Callable[[str], str], texts: Texts) -> Markup:
    """As `link_to`, of the user of an id; one whom nobody knows is called by it."""
    found = names.get(user_id)
    if found is not None:
        return link_to(found, path, texts)
    return Markup('<a class="user" href="{}"><bdi>{}</bdi></a>').format(path(f"/admin/users/{user_id}"), user_id)
