"""What happens in the demo: a coffee shop's subscribers, whom they bring, what those buy, and who cheats."""

import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from referral.clock import SECOND

# How long ago the programme began.
DAYS = 70
HOUR = 3_600 * SECOND
MINUTE = 60 * SECOND

REFERRERS = (
    ("1001", "Grace Hartley", 9),
    ("1002", "Tomás Oliveira", 7),
    ("1003", "Анна Королёва", 6),
    ("1004", "Yusuf Demir", 5),
    ("1005", "Mei-Ling Chou", 4),
    ("1006", "Priya Raman", 3),
    ("1007", "Lars Holmqvist", 3),
    ("1008", "Noor Haddad", 2),
    ("1009", "Ewa Zielińska", 2),
    ("1010", "Daniel Okafor", 1),
)
# fmt: off
FIRST = (
    "Ada", "Ben", "Carla", "Dmitri", "Elif", "Femi", "Gus", "Hana", "Igor", "Jo", "Kenji", "Lena", "Milo", "Nadia",
    "Oscar", "Petra", "Quinn", "Rosa", "Sami", "Theo", "Uma", "Vera", "Will", "Zoe",
)
LAST = (
    "Abbott", "Brandt", "Castillo", "Dahl", "Eriksen", "Fontaine", "Grau", "Hoang", "Ivanova", "Jansen", "Kim", "Lopes",
    "Marsh", "Novak", "Ortiz", "Park", "Reyes", "Tanaka",
)
# fmt: on
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
ROBOT = "Twitterbot/1.0"

# The one who comes by himself. Nothing is wrong with the first order; the second one is paid with the referrer's card.
CHEAT, SHADOW = "1042", "1077"
CARD, PHONE = "card 4a91", "phone 77e0"

Step = Callable[[], Awaitable[None]]


class Calls(Protocol):
    """The API, as the product's back end calls it."""

    async def call(self, method: str, path: str, body: Any = None) -> Any: ...

    async def visit(self, code: str, agent: str) -> None: ...


def _address_of(name: str, external_id: str) -> str:
    """An address at a domain that is nobody's."""
    words = "".join(letter if letter.isascii() else "" for letter in name.lower()).split()
    return ".".join([*words, external_id]) + "@mail.example"


def usd(cents: int) -> dict[str, Any]:
    return {"unit": "USD", "amount": cents}


class Story:
    """Ten weeks of the programme, day by day; the same in each demo."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._dice = random.Random(11)
        self._codes: dict[str, str] = {}
        self._rules: dict[str, str] = {}
        self._clicks: dict[str, str] = {}
        self._planned: defaultdict[int, list[tuple[int, Step]]] = defaultdict(list)
        self._people = 1100
        self._orders = 5000

    async def begin(self) -> None:
        """Set the programme up, with those who refer in it."""
        await self._make_rules()
        for external_id, name, _ in REFERRERS:
            await self._join(external_id, name, public=external_id in ("1001", "1002", "1003", "1005"))
        await self._join(CHEAT, "Viktor Sloan")
        self._plan_cheat()
        self._plan_flood()
        self._plan_family()
        self._plan_past_fraud()
        self._plan_operators()

    def day(self, day: int) -> list[tuple[int, Step]]:
        """What happens so many days ago: at which millisecond of it, and the call that does it."""
        # More come each week.
        for _ in range(self._dice.randint(1, 2 + (DAYS - day) // 14)):
            self._plan_newcomer(day)
        for _ in range(self._dice.randint(2, 6)):
            self._at(day, self._dice.randrange(24 * HOUR), self._look, self._referrer())
        return sorted(self._planned.pop(day, []), key=lambda step: step[0])

    def _at(self, day: int, moment: int, happen: Callable[..., Awaitable[Any]], *given: Any, **members: Any) -> None:
        self._planned[day].append((moment, partial(happen, *given, **members)))

    def _referrer(self) -> str:
        return self._dice.choices([one[0] for one in REFERRERS], [one[2] for one in REFERRERS])[0]

    def _address(self) -> str:
        # Networks that are set aside for examples.
        return f"{self._dice.choice(('192.0.2', '198.51.100', '203.0.113'))}.{self._dice.randrange(1, 255)}"

    async def _make_rules(self) -> None:
        post = partial(self._calls.call, "POST", "/rules")
        share = {"kind": "balance", "percent": "15", "max": 2500}
        first = await post(
            {"name": "A share of a friend's first order", "on": "purchase", "to": "referrer", "give": share, "hold_days": 14}
        )
        self._rules["share"] = first["id"]
        await post(
            {
                "name": "Five dollars for the newcomer",
                "on": "purchase",
                "to": "referee",
                "give": {"kind": "balance", "unit": "USD", "fixed": 500},
                "if": {"min_amount": usd(2000)},
                "hold_days": 3,
                "limits": {"budget": {**usd(50_000), "period": "month"}},
            }
        )
        await post(
            {
                "name": "Beans for every order of a friend",
                "on": "purchase",
                "to": "referrer",
                "times": None,
                "give": {"kind": "balance", "unit": "POINTS", "fixed": 100},
                "hold_days": 0,
                "limits": {"per_referrer": {"count": 40, "period": "month"}},
            }
        )
        await post(
            {
                "name": "A mug for a yearly subscription",
                "on": "subscription",
                "to": "referrer",
                "give": {"kind": "coupon", "label": "Kettle & Kin mug"},
                "approval": "manual",
                "hold_days": 0,
            }
        )
        await post(
            {
                "name": "Spring fair",
                "on": "signup",
                "to": "referee",
                "give": {"kind": "coupon", "label": "Fair ticket"},
                "hold_days": 1,
                "enabled": False,
            }
        )

    async def _join(self, external_id: str, name: str, *, public: bool = False) -> None:
        user = {
            "name": name,
            "email": _address_of(name, external_id),
            "email_verified": True,
            "metadata": {"plan": "monthly", **({"public_name": name.split()[0]} if public else {})},
        }
        await self._calls.call("PUT", f"/users/ext:{external_id}", user)
        made = await self._calls.call("POST", f"/users/ext:{external_id}/codes", {"ttl_days": 365})
        self._codes[external_id] = made["code"]

    async def _look(self, referrer: str) -> str:
        """Somebody follows the link, and leaves again; a network's robot looks at what was shared."""
        if self._dice.random() < 0.15:
            await self._calls.visit(self._codes[referrer], ROBOT)
        context = {"ip": self._address(), "user_agent": AGENT}
        qr = "https://kettle.example/?via=qr" if self._dice.random() < 0.2 else "https://kettle.example/"
        click = await self._calls.call("POST", "/clicks", {"code": self._codes[referrer], "url": qr, "context": context})
        return str(click["click_id"])

    def _plan_newcomer(self, day: int) -> None:
        dice, referrer = self._dice, self._referrer()
        self._people += 1
        external_id, moment = str(self._people), dice.randrange(7, 20) * HOUR + dice.randrange(HOUR)
        name = f"{dice.choice(FIRST)} {dice.choice(LAST)}"
        self._plan_sign_up(day, moment, external_id, name, referrer)
        if dice.random() < 0.6:
            self._plan_orders(day, moment, external_id)
        if dice.random() < 0.08:
            self._at(max(day - 5, 0), moment, self._report, f"sub_{external_id}", "subscription", external_id)

    def _plan_orders(self, day: int, moment: int, external_id: str) -> None:
        dice = self._dice
        day -= dice.randrange(0, 4)
        while day >= 0:
            self._orders += 1
            order, cents = f"order_{self._orders}", dice.choice((1800, 2400, 3200, 4900, 5600, 8900))
            self._at(day, moment + 2 * HOUR, self._buy, order, external_id, cents)
            if dice.random() < 0.07:
                part = {"value": usd(cents // 2)} if dice.random() < 0.4 else {}
                self._at(max(day - dice.randrange(1, 6), 0), moment + 3 * HOUR, self._refund, order, **part)
            if dice.random() < 0.55:
                return
            day -= dice.randrange(9, 30)

    def _plan_sign_up(
        self, day: int, moment: int, external_id: str, name: str, referrer: str, email: str | None = None
    ) -> None:
        """A look at the link, and a sign-up some minutes later."""
        self._at(day, moment, self._click, external_id, referrer)
        self._at(day, moment + self._dice.randrange(1, 15) * MINUTE, self._sign_up, external_id, name, email)

    async def _click(self, external_id: str, referrer: str) -> None:
        self._clicks[external_id] = await self._look(referrer)

    async def _sign_up(self, external_id: str, name: str, email: str | None) -> None:
        user = {"external_id": external_id, "name": name, "email": email or _address_of(name, external_id)}
        context = {"ip": self._address(), "user_agent": AGENT}
        click_id = self._clicks.pop(external_id)
        await self._report(f"signup_{external_id}", "signup", external_id, user=user, click_id=click_id, context=context)

    async def _report(self, event_id: str, kind: str, external_id: str, **members: Any) -> None:
        body = {"id": event_id, "type": kind, "user": {"external_id": external_id}, **members}
        await self._calls.call("POST", "/events", body)

    async def _buy(self, order: str, external_id: str, cents: int, **context: str) -> None:
        context = {"payment": f"card of {external_id}", **context}
        await self._report(order, "purchase", external_id, value=usd(cents), context=context, metadata={"basket": "beans"})

    async def _refund(self, order: str, **part: Any) -> None:
        await self._calls.call("POST", "/events", {"id": f"refund_{order}", "type": "refund", "refunds": order, **part})

    def _plan_cheat(self) -> None:
        """The self-referral that the back office is to find."""
        self._at(33, 9 * HOUR, self._buy, "order_4101", CHEAT, 5600, payment=CARD, device=PHONE)
        self._plan_sign_up(31, 20 * HOUR, SHADOW, "V. Sloan", CHEAT, "vs.coffee@inbox.example")
        self._at(30, 21 * HOUR, self._buy, "order_4102", SHADOW, 8900)
        self._at(5, 12 * HOUR, self._buy, "order_4100", CHEAT, 3200, payment=CARD, device=PHONE)
        self._at(1, 21 * HOUR, self._buy, "order_4103", SHADOW, 8900, payment=CARD, device=PHONE)

    def _plan_flood(self) -> None:
        """A code on a bargain hunters' forum: more than ten come within the hour, some by throwaway addresses."""
        self._at(4, 11 * HOUR, self._join, "1050", "Max Keller")
        for number in range(13):
            name = f"{self._dice.choice(FIRST)} {self._dice.choice(LAST)}"
            domain = "mailinator.com" if number in (6, 11) else "mail.example"
            moment = 14 * HOUR + number * 2 * MINUTE
            self._plan_sign_up(3, moment, str(1500 + number), name, "1050", f"deal{number}@{domain}")
            if domain == "mailinator.com":
                self._at(2, moment, self._buy, f"order_44{number:02}", str(1500 + number), 2400)

    def _plan_family(self) -> None:
        """Two sisters with one tablet: cleared."""
        self._at(25, 10 * HOUR, self._buy, "order_4201", "1006", 2400, device="tablet b2")
        self._plan_sign_up(24, 18 * HOUR, "1601", "Divya Raman", "1006")
        self._at(23, 18 * HOUR, self._buy, "order_4202", "1601", 4900, device="tablet b2")
        self._at(22, 9 * HOUR, self._decide, "1601", "clear", reason="Her sister, on the same tablet. We spoke to both.")

    def _plan_past_fraud(self) -> None:
        """A referral that was rejected a month ago, and one that nobody has decided for more than a week."""
        self._plan_sign_up(45, 12 * HOUR, "1701", "Kurt Vogel", "1010")
        self._at(44, 12 * HOUR, self._buy, "order_4301", "1701", 8900)
        self._at(40, 9 * HOUR, self._point_out, "1701", 80, "The parcel went to the referrer's own address.")
        self._at(39, 9 * HOUR, self._decide, "1701", "reject", reason="Sent to the referrer's own address.")
        self._plan_sign_up(13, 16 * HOUR, "1702", "Sol Marin", "1008")
        self._at(12, 16 * HOUR, self._buy, "order_4302", "1702", 5600)
        self._at(10, 9 * HOUR, self._point_out, "1702", 60, "Support: asked how to refer oneself.")

    async def _point_out(self, external_id: str, weight: int, note: str) -> None:
        await self._calls.call("POST", f"/referrals/ext:{external_id}/signals", {"weight": weight, "note": note})

    async def _decide(self, external_id: str, decision: str, **members: Any) -> None:
        await self._calls.call("POST", f"/reviews/ext:{external_id}/{decision}", members)

    def _plan_operators(self) -> None:
        """What people do by hand: a rule is changed, rewards are given, delivered and spent."""
        self._at(50, 10 * HOUR, self._raise_share)
        sorry = {"kind": "balance", "value": usd(1000), "reason": "A parcel was late."}
        self._at(28, 10 * HOUR, self._post, "/rewards", {"id": "sorry-1", "user": {"external_id": "1002"}, **sorry})
        for day, external_id, unit, amount in (
            (14, "1001", "USD", 1500),
            (9, "1003", "POINTS", 300),
            (6, CHEAT, "USD", 1000),
        ):
            spending = {"id": f"spend-{day}", "unit": unit, "amount": amount, "note": "Off the next order"}
            self._at(day, 15 * HOUR, self._post, f"/users/ext:{external_id}/redemptions", spending)
        for day in range(60, 2, -7):
            self._at(day, 17 * HOUR, self._deliver)
        hook = {"url": "https://shop.kettle.example/hooks/referral", "types": ["reward.*", "review.*"]}
        self._at(0, 0, self._post, "/webhooks", hook)

    async def _post(self, path: str, body: Any) -> None:
        await self._calls.call("POST", path, body)

    async def _raise_share(self) -> None:
        change = {
            "name": "20 % of a friend's first order",
            "give": {"kind": "balance", "percent": "20", "max": 2500},
            "tiers": [{"from": 10, "percent": "25"}],
        }
        await self._calls.call("PATCH", f"/rules/{self._rules['share']}", change)

    async def _deliver(self) -> None:
        """Approve the oldest mugs that wait, and send them."""
        page = await self._calls.call("GET", "/rewards?status=pending&limit=100")
        mugs = [reward for reward in page["items"] if reward["kind"] == "coupon"]
        for mug in mugs[1:]:
            await self._calls.call("POST", f"/rewards/{mug['id']}/approve")
            await self._calls.call("POST", f"/rewards/{mug['id']}/fulfil", {"reference": f"parcel {mug['id'][-4:]}"})
