"""What became of a user's rewards, in sentences. Pure: it knows no connection and no request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson
from markupsafe import Markup

from referral.contract.schemas.rewards import waiting_for
from referral.queries.people import Named
from referral.queries.reviews import REJECTED
from referral.queries.rewards import Reward
from referral.queries.timeline import Approval, Fulfilment, Spending, Taking
from referral.rules import deciding
from referral.rules.rewards import RETRACTED
from referral.web.admin_acts import decider_text
from referral.web.admin_people import link_to_id, theirs
from referral.web.admin_rewards import known_reason
from referral.web.admin_texts import Texts
from referral.web.admin_values import time_of

# A sentence, what more is to be said, and the tone: `good`, `warn`, `bad` or none.
Sentences = tuple[Markup, list[Markup], str]

# Of the states of rewards.
TONES = {"pending": "warn", "approved": "good", "fulfilled": "good", "void": "bad", "reversed": "bad"}


@dataclass(frozen=True)
class RewardTeller:
    """Tells what befell rewards of a user, at a moment (ms), by the names of those whom they mention. `path` makes an
    address of the service's own of a path, `money` shows an amount in a unit."""

    user_id: str
    moment: int
    texts: Texts
    path: Callable[[str], str]
    money: Callable[[int, str], Markup]
    names: Mapping[str, Named] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)

    def who(self, user_id: str) -> Markup:
        """A link to the user of an id."""
        return link_to_id(user_id, self.names, self.path, self.texts)

    def link(self, target: str, text: Markup) -> Markup:
        """A link to a page of the back office."""
        return Markup('<a href="{}">{}</a>').format(self.path(target), text)

    def rule(self, rule_id: str, name: str | None = None) -> Markup:
        """A link to a rule, by its name."""
        _ = self.texts
        shown = name or self.rules.get(rule_id) or rule_id
        return self.link(f"/admin/rules/{rule_id}", _("The rule “%(name)s”", name=theirs(shown)))

    def reward(self, reward: Reward) -> Sentences:
        """A reward, with what it is now and what it waits for."""
        _ = self.texts
        more = []
        text = self._made(reward)
        if reward.rule_id is not None and reward.definition is not None:
            name = str(orjson.loads(reward.definition)["name"])
            by = {"rule": self.rule(reward.rule_id, name), "version": _.number(reward.rule_version or 0)}
            more.append(
                _(
                    "%(rule)s (version %(version)s) gave it for the event %(event)s.",
                    event=theirs(reward.event_id or ""),
                    **by,
                )
            )
        elif reward.reason is not None and reward.status not in ("void", "reversed"):
            more.append(_("Reason: %(reason)s", reason=theirs(reward.reason)))
        return text, [*more, *self.state_of(reward)], TONES.get(reward.status, "")

    def _made(self, reward: Reward) -> Markup:
        """That a reward was made; only what was approved as it was made was earned then."""
        _ = self.texts
        facts = {"reward": self._reward_link(reward.id, reward)}
        is_earned = reward.approved_at == reward.created_at
        if reward.side is None:
            if is_earned:
                return _("Was given %(reward)s by hand.", **facts)
            return _("A reward was made by hand: %(reward)s.", **facts)
        if reward.side == "referrer":
            facts["who"] = self.who(reward.referral_user_id or "")
            if is_earned:
                return _("Earned %(reward)s for bringing %(who)s.", **facts)
            return _("A reward was made: %(reward)s for bringing %(who)s.", **facts)
        facts["who"] = self.who(reward.referrer_id or "")
        if is_earned:
            return _("Earned %(reward)s as somebody who came by %(who)s.", **facts)
        return _("A reward was made: %(reward)s for coming by %(who)s.", **facts)

    def state_of(self, reward: Reward) -> list[Markup]:
        """What the reward is now, and what it waits for, in sentences."""
        _ = self.texts
        found = []
        if reward.status == "pending":
            waits = waiting_for(reward, self.moment)
            found.append(_("It is not earned yet."))
            if "hold" in waits:
                found.append(
                    _("It waits until %(at)s: so long a purchase may be given back.", at=time_of(reward.release_at))
                )
            if "review" in waits:
                link = self.link(f"/admin/reviews/{reward.referral_user_id}", _("review of the referral"))
                found.append(_("It waits for the %(review)s, which somebody has to decide.", review=link))
            if "approval" in waits:
                link = self.link(f"/admin/rewards/{reward.id}", _("approve it"))
                found.append(_("It waits for somebody to %(approve)s: its rule wants that.", approve=link))
            if reward.suspended_at is not None:
                found.append(_("It waits for the end of the user's suspension."))
        elif reward.status == "void":
            found.append(_("It is void: it was never earned. %(why)s", why=self._why(reward)))
        elif reward.status == "reversed":
            found.append(_("All of it was taken back after it was approved. %(why)s", why=self._why(reward)))
        elif reward.status == "fulfilled":
            found.append(_("The product has delivered it."))
        elif reward.kind == "balance":
            found.append(_("It is approved, and can be spent."))
        else:
            found.append(_("It is approved, and the product has to deliver it."))
        if reward.reversed and reward.unit is not None and reward.status not in ("void", "reversed"):
            found.append(_("%(amount)s of it was taken back.", amount=self.money(reward.reversed, reward.unit)))
        return found

    def _why(self, reward: Reward) -> Markup:
        _, reason = self.texts, reward.reason
        known = known_reason(_, reason)
        if reason == deciding.REASON and known is not None:
            link = self.link(f"/admin/reviews/{reward.referral_user_id}", _("Why it was rejected"))
            return Markup(" ").join((known, link))
        if known is not None or reason is None:
            return known or Markup("")
        return _("Reason: %(reason)s", reason=theirs(reason))

    def _reward_link(self, reward_id: str, worth: Reward | Approval | Fulfilment) -> Markup:
        _ = self.texts
        label = theirs(worth.label) if worth.label else None
        value = self.money(worth.value, worth.unit) if worth.value is not None and worth.unit is not None else None
        if label and value:
            shown = _("“%(label)s”, worth %(value)s", label=label, value=value)
        elif label:
            shown = (Markup("«{}»") if _.language == "ru" else Markup("“{}”")).format(label)
        else:
            shown = value or _("a reward")
        return self.link(f"/admin/rewards/{reward_id}", shown)

    def approval(self, approval: Approval) -> Sentences:
        """That a reward was approved, which is when it is earned."""
        _ = self.texts
        text = _("Earned %(reward)s: the reward was approved.", reward=self._reward_link(approval.id, approval))
        if approval.at == approval.created_at:
            more = _("At once: nothing had to be waited for.")
        else:
            more = _("It had waited since %(at)s, and nothing held it back any more.", at=time_of(approval.created_at))
        return text, [more], "good"

    def fulfilment(self, fulfilment: Fulfilment) -> Sentences:
        """That the product delivered a reward."""
        _ = self.texts
        text = _("The product delivered %(reward)s.", reward=self._reward_link(fulfilment.id, fulfilment))
        more = [_("It calls that %(reference)s.", reference=theirs(fulfilment.reference))] if fulfilment.reference else []
        return text, more, "good"

    def taking(self, taking: Taking) -> Sentences:
        """That something was taken of a reward, and why."""
        _ = self.texts
        facts = {
            "amount": self.money(taking.amount, taking.unit),
            "reward": self.link(f"/admin/rewards/{taking.reward_id}", _("a reward")),
        }
        if taking.debit == "pending":
            text = _("%(amount)s of %(reward)s that still waited will not be paid.", **facts)
        else:
            text = _("%(amount)s of %(reward)s was taken back.", **facts)
        more = self._causes(taking)
        if taking.available_after is not None:
            after = self.money(taking.available_after, taking.unit)
            if taking.available_after < 0:
                more.append(_("Available after that: %(amount)s, a debt, which the next rewards pay off.", amount=after))
            else:
                more.append(_("Available after that: %(amount)s.", amount=after))
        return text, more, "bad"

    def _causes(self, taking: Taking) -> list[Markup]:
        """Why it was taken; of a rejection, who decided that and for what reason."""
        _ = self.texts
        if taking.kind == "refund":
            return [_("Why: the purchase was given back.")]
        if taking.review == REJECTED:
            said = [_("Reason: %(reason)s", reason=theirs(taking.review_reason))] if taking.review_reason else []
            return [self._rejection(taking), *said]
        who = self.who(taking.referral_user_id or "")
        if taking.reason == RETRACTED:
            return [
                _("Why: the referral of %(who)s was taken back, because nobody proved the address to be theirs.", who=who)
            ]
        if taking.reason == deciding.REASON:
            return [_("Why: the referral of %(who)s was rejected.", who=who)]
        if taking.reason:
            return [_("Why: %(reason)s", reason=theirs(taking.reason))]
        return [_("The reason is no longer kept.")]

    def _rejection(self, taking: Taking) -> Markup:
        _ = self.texts
        facts = {
            "by": decider_text(_, taking.decided_by_user, taking.decided_by_key, self.who),
            "review": self.link(f"/admin/reviews/{taking.referral_user_id}", _("Look at the review")),
        }
        if taking.referral_user_id == self.user_id:
            return _("Why: the referral by which this user came was rejected %(by)s. %(review)s", **facts)
        who = self.who(taking.referral_user_id or "")
        return _("Why: the referral of %(who)s was rejected %(by)s. %(review)s", who=who, **facts)

    def spending(self, spending: Spending) -> Sentences:
        """A redemption, as it is now."""
        _ = self.texts
        amount = self.money(spending.amount, spending.unit)
        texts = {
            "done": _("Spent %(amount)s.", amount=amount),
            "reserved": _("%(amount)s is reserved, and will be spent or given back.", amount=amount),
            "released": _("%(amount)s was reserved, and is available again.", amount=amount),
            "cancelled": _("%(amount)s was spent, and given back later.", amount=amount),
        }
        said = [theirs(one) for one in (spending.reference, spending.note) if one]
        return texts.get(spending.status, amount), [Markup(" · ").join(said)] if said else [], ""
