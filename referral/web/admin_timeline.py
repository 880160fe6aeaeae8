"""A user's timeline in sentences: what happened, and why. Pure: it knows no connection and no request."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from markupsafe import Markup

from referral.contract.schemas.events import REFUND
from referral.queries.audit import Event
from referral.queries.codes import Code
from referral.queries.events import ReportedEvent
from referral.queries.referrals import Referral
from referral.queries.reviews import KeptSignal
from referral.queries.timeline import Joining, NamedClick, ReviewCourse
from referral.rules.timeline import Step
from referral.web.admin_acts import act_reason, act_text, actor_text, decider_text, detail_of
from referral.web.admin_people import theirs
from referral.web.admin_reasons import attribution_reason, skip_reason
from referral.web.admin_rewards_told import RewardTeller, Sentences
from referral.web.admin_signals import signal_text
from referral.web.admin_values import time_of

# What happened so long (ms) before it was reported is told with its own time.
LATE = 60_000
# What somebody did to a reward, which is told with what came of it.
REWARD_ACTS = {
    "reward-made": "reward",
    "reward-approved": "approval",
    "reward-rejected": "taking",
    "reward-reversed": "taking",
}


@dataclass(frozen=True, slots=True)
class Told:
    """A step as people read it: the sentence, what more is to be said, and the tone, `good`, `warn`, `bad` or none."""

    at: int
    kind: str
    text: Markup
    more: Sequence[Markup] = ()
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Mentioned:
    """Of whom and which rules steps speak, by their ids."""

    users: frozenset[str]
    rules: frozenset[str]


def mentioned(steps: Iterable[Step]) -> Mentioned:
    """The users and rules whose names the sentences of these steps need."""
    found: set[str | None] = set()
    rules: set[str] = set()
    for step in steps:
        about = step.about
        for name in ("owner_id", "referrer_id", "referral_user_id", "actor_id", "decided_by_user"):
            found.add(getattr(about, name, None))
        if isinstance(about, Referral):
            found.add(about.user_id)
        elif isinstance(about, ReportedEvent):
            rules |= {str(skipped["rule_id"]) for skipped in _skipped(about)}
        elif isinstance(about, KeptSignal) and about.evidence is not None:
            found |= set(map(str, orjson.loads(about.evidence).get("users", ())))
    return Mentioned(frozenset(one for one in found if one), frozenset(rules))


def _skipped(event: ReportedEvent) -> list[dict[str, Any]]:
    return orjson.loads(event.outcome)["skipped"] if event.outcome else []


class Teller(RewardTeller):
    """Tells steps of the timeline of a user."""

    def tell(self, steps: Sequence[Step]) -> list[Told]:
        """The steps in their order; what somebody did to a reward is told with what came of it."""
        acts = {
            (step.at, REWARD_ACTS[step.about.event], detail_of(step.about).get("reward_id")): step.about
            for step in steps
            if step.kind == "act" and step.about.event in REWARD_ACTS
        }
        merged = {
            (step.at, step.kind, _reward_id(step)): acts[(step.at, step.kind, _reward_id(step))]
            for step in steps
            if step.kind != "act" and (step.at, step.kind, _reward_id(step)) in acts
        }
        folded = {act.id for act in merged.values()}
        # That a reward was approved as it was made is said by the reward itself.
        rewarded = {step.id for step in steps if step.kind == "reward"}
        at_once = {
            step.id for step in steps if step.kind == "approval" and step.at == step.about.created_at and step.id in rewarded
        }
        return [
            self._tell(step, merged.get((step.at, step.kind, _reward_id(step))))
            for step in steps
            if not (step.kind == "act" and step.about.id in folded) and not (step.kind == "approval" and step.id in at_once)
        ]

    def _tell(self, step: Step, act: Event | None) -> Told:
        tellers: dict[str, Callable[[Any], Sentences]] = {
            "click": self._click,
            "code-made": self._code_made,
            "code-ended": self._code_ended,
            "joined": self._joined,
            "brought": self._brought,
            "event": self._event,
            "signal": self._signal,
            "review-opened": self._review_opened,
            "review-decided": self._review_decided,
            "reward": self.reward,
            "approval": self.approval,
            "fulfilment": self.fulfilment,
            "taking": self.taking,
            "spending": self.spending,
            "act": self._act,
        }
        text, more, tone = tellers[step.kind](step.about)
        if act is not None:
            _ = self.texts
            more = [_("Done %(by)s.", by=actor_text(act, self.who, self.texts)), *more]
        return Told(step.at, step.kind, text, more, tone)

    def _click(self, click: NamedClick) -> Sentences:
        _ = self.texts
        if click.owner_id is None:
            text = _("Clicked on the link of the code %(code)s.", code=theirs(click.code))
        else:
            whose = {"code": theirs(click.code), "who": self.who(click.owner_id)}
            text = _("Clicked on the link of %(who)s, with the code %(code)s.", **whose)
        if click.robot:
            return text, [_("The click looked like a program's, not a person's.")], "warn"
        return text, [], ""

    def _code_made(self, code: Code) -> Sentences:
        _ = self.texts
        facts = {"code": theirs(code.code), "end": time_of(code.expires_at)}
        text = _("Got the code %(code)s, to bring others by. It is good until %(end)s.", **facts)
        if code.max_uses is None:
            return text, [], ""
        more = _.plural("%(count)s user may come by it at most.", "%(count)s users may come by it at most.", code.max_uses)
        return text, [more], ""

    def _code_ended(self, code: Code) -> Sentences:
        _ = self.texts
        return _("The code %(code)s ended: nobody comes by it any more.", code=theirs(code.code)), [], ""

    def _joined(self, joining: Joining) -> Sentences:
        _ = self.texts
        facts = {"who": self.who(joining.referrer_id), "code": theirs(joining.code)}
        if joining.source == "click":
            text = _("Came by %(who)s, by a click on the link of the code %(code)s.", **facts)
        elif joining.source == "import":
            text = _("Came by %(who)s, with the code %(code)s, as an import says.", **facts)
        else:
            text = _("Came by %(who)s, whose code %(code)s was given.", **facts)
        return text, self._of_review(joining.review, self.user_id), _tone_of_review(joining.review) or "good"

    def _brought(self, referral: Referral) -> Sentences:
        _ = self.texts
        text = _("Brought %(who)s, by the code %(code)s.", who=self.who(referral.user_id), code=theirs(referral.code))
        more = self._of_review(referral.review, referral.user_id)
        if referral.review != "rejected":
            if referral.converted_at is None:
                more.append(_("No purchase counts so far: there was none, or it was refunded."))
            else:
                more.append(_("The referral is converted since %(at)s.", at=time_of(referral.converted_at)))
        return text, more, _tone_of_review(referral.review) or "good"

    def _of_review(self, review: str, user_id: str) -> list[Markup]:
        _ = self.texts
        target = f"/admin/reviews/{user_id}"
        if review == "open":
            link = self.link(target, _("Look at the review"))
            return [_("The referral is under review, and its rewards wait for that. %(link)s", link=link)]
        if review == "cleared":
            return [_("%(review)s of the referral was cleared.", review=self.link(target, _("The review")))]
        if review == "rejected":
            link = self.link(target, _("Why it was rejected"))
            return [_("The referral was rejected: nothing is earned by it. %(link)s", link=link)]
        return []

    def _event(self, event: ReportedEvent) -> Sentences:
        _ = self.texts
        more = list(self._of_event(event))
        named = theirs(event.id)
        if event.unit is None or event.amount is None:
            if event.type == "signup":
                return _("Signed up."), more, "good"
            if event.type == "purchase":
                return _("Bought something, without a value (%(event)s).", event=named), more, "good"
            return _("The product reported “%(type)s” (%(event)s).", type=theirs(event.type), event=named), more, ""
        amount = self.money(event.amount, event.unit)
        if event.type == REFUND:
            facts = {"amount": amount, "event": theirs(event.refunds or "")}
            return _("Was given back %(amount)s of the purchase %(event)s.", **facts), more, "warn"
        if event.type == "purchase":
            return _("Bought for %(amount)s (%(event)s).", amount=amount, event=named), more, "good"
        facts = {"type": theirs(event.type), "event": named, "amount": amount}
        return _("The product reported “%(type)s” of %(amount)s (%(event)s).", **facts), more, ""

    def _of_event(self, event: ReportedEvent) -> Iterator[Markup]:
        _ = self.texts
        if event.received_at - event.occurred_at > LATE:
            yield _("It happened at %(at)s, and was reported later.", at=time_of(event.occurred_at))
        if event.unit is not None and event.type != REFUND and event.refunded:
            yield _("%(amount)s of it was given back since.", amount=self.money(event.refunded, event.unit))
        if event.reason is not None:
            yield self._attribution(event, event.reason)
        for skipped in _skipped(event):
            rule_id, reason = str(skipped["rule_id"]), skip_reason(str(skipped["reason"]), self.texts)
            yield _("%(rule)s gave nothing: %(reason)s.", rule=self.rule(rule_id), reason=reason)
        if event.type == "purchase" and event.outcome is None:
            yield _("No rule of the programme was about such a purchase, so that it brought no reward.")

    def _attribution(self, event: ReportedEvent, word: str) -> Markup:
        _ = self.texts
        reason = attribution_reason(word, self.texts)
        if event.code is not None:
            return _("The code %(code)s changed nothing: %(reason)s.", code=theirs(event.code), reason=reason)
        return _("The click that was named changed nothing: %(reason)s.", reason=reason)

    def _signal(self, signal: KeptSignal) -> Sentences:
        _ = self.texts
        told = signal_text(_, signal.kind, signal.evidence)
        text = _("Suspicious: %(kind)s (weight %(weight)s).", kind=told.title, weight=_.number(signal.weight))
        named = [Markup(", ").join(map(self.who, told.users))] if told.users else []
        return text, [told.sentence, *named], "warn"

    def _review_opened(self, review: ReviewCourse) -> Sentences:
        _ = self.texts
        text = _("A review of the referral was opened: what is suspicious came to too much.")
        if review.status != "open":
            return text, [], "warn"
        link = self.link(f"/admin/reviews/{self.user_id}", _("Look at it and decide"))
        return text, [_("The rewards for the referral wait until somebody decides. %(link)s", link=link)], "warn"

    def _review_decided(self, review: ReviewCourse) -> Sentences:
        _ = self.texts
        by = decider_text(_, review.decided_by_user, review.decided_by_key, self.who)
        more = [_("Reason: %(reason)s", reason=theirs(review.reason))] if review.reason else []
        if review.status == "cleared":
            return _("The review was cleared %(by)s: the rewards go on.", by=by), more, "good"
        if review.suspends:
            more.append(_("The referrer was suspended with it."))
        text = _("The referral was rejected %(by)s: its rewards became void, or were taken back.", by=by)
        return text, more, "bad"

    def _act(self, act: Event) -> Sentences:
        _ = self.texts
        by = _("Done %(by)s.", by=actor_text(act, self.who, self.texts))
        reason = act_reason(act, self.texts)
        tone = "bad" if act.event in ("account-suspended", "account-erased", "account-disowned") else ""
        return act_text(act, self.texts), [by, reason] if reason else [by], tone


def _tone_of_review(review: str) -> str:
    return {"open": "warn", "rejected": "bad"}.get(review, "")


def _reward_id(step: Step) -> str | None:
    return step.about.reward_id if step.kind == "taking" else step.id
