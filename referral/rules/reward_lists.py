"""Lists of rewards: each filter is read by the index that it has."""

from typing import Any

from referral.contract.paging import MOST_COUNTED, Key
from referral.database import Connection
from referral.queries import rewards
from referral.queries.rewards import Reward


async def find_rewards(
    conn: Connection, query: dict[str, Any], user_id: str | None, before: Key, limit: int
) -> tuple[list[Reward], int]:
    """Rewards made before the key, newest first, and how many there are in all, counted up to MOST_COUNTED: those of a user,
    if one is given, and of the `status`, `rule` and `event` that the query asks for."""
    status, rule_id, event_id = query.get("status"), query.get("rule"), query.get("event")
    if user_id is not None:
        found = await rewards.list_rewards_of_user(conn, user_id, rule_id, event_id, status, before, limit)
        return found, await rewards.count_rewards_of_user(conn, user_id, rule_id, event_id, status, MOST_COUNTED)
    if event_id is not None:
        # An event has as many rewards as there are rules.
        all_found = await rewards.list_rewards_of_event(conn, event_id)
        kept = [
            reward
            for reward in all_found
            if (rule_id is None or reward.rule_id == rule_id) and (status is None or reward.status == status)
        ]
        kept.sort(key=lambda reward: (reward.created_at, reward.id), reverse=True)
        return [reward for reward in kept if (reward.created_at, reward.id) < before][:limit], len(kept)
    if rule_id is not None:
        found = await rewards.list_rewards_of_rule(conn, rule_id, status, before, limit)
        return found, await rewards.count_rewards_of_rule(conn, rule_id, status, MOST_COUNTED)
    if status is not None:
        found = await rewards.list_rewards_in_state(conn, status, before, limit)
        return found, await rewards.count_rewards_in_state(conn, status, MOST_COUNTED)
    return await rewards.list_rewards(conn, before[1], limit), await rewards.count_rewards(conn, MOST_COUNTED)
