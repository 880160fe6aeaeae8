"""Locks: statements of `sql/locks.postgres.sql`. They are held to the end of the transaction."""

from typing import Any

import orjson

from referral.database import Connection


async def lock_user(conn: Connection, user_id: str) -> None:
    """Until the end of the transaction nobody else changes this user, their code or their account's end."""
    await conn.lock("lock_user", user_id=user_id)


async def lock_users(conn: Connection, user_ids: list[str]) -> None:
    """As `lock_user`, each of them."""
    await conn.lock("lock_users", user_ids=orjson.dumps(user_ids).decode())


async def hold_address(conn: Connection, user_id: str) -> None:
    """Until the end of the transaction nobody takes this user's address away. It keeps nobody else out."""
    await conn.lock("hold_address", user_id=user_id)


async def lock_referrers(conn: Connection) -> None:
    """Until the end of the transaction nobody else sets a referrer after registration."""
    await conn.lock("lock_referrers")


async def hold_rules(conn: Connection) -> None:
    """Until the end of the transaction nobody changes a rule. It keeps nobody else out."""
    await conn.lock("hold_rules")


async def change_rules(conn: Connection) -> None:
    """Until the end of the transaction nobody else makes or voids rewards, or changes a rule."""
    await conn.lock("change_rules")


async def lock_reward(conn: Connection, reward_id: str) -> None:
    """Until the end of the transaction nobody else changes this reward."""
    await conn.lock("lock_reward", reward_id=reward_id)


async def lock_rewards_of_event(conn: Connection, event_id: str) -> None:
    await conn.lock("lock_rewards_of_event", event_id=event_id)


async def lock_rewards_of_referral(conn: Connection, user_id: str) -> None:
    await conn.lock("lock_rewards_of_referral", user_id=user_id)


async def lock_redemption(conn: Connection, redemption_id: str) -> None:
    await conn.lock("lock_redemption", redemption_id=redemption_id)


async def lock_account(conn: Connection, user_id: str, unit: str) -> None:
    """Until the end of the transaction nobody else moves the user's money of this unit."""
    await conn.lock("lock_account", user_id=user_id, unit=unit)


async def lock_accounts(conn: Connection, accounts: list[dict[str, str]]) -> None:
    """As `lock_account`, each `user_id` and `unit`."""
    await conn.lock("lock_accounts", accounts=orjson.dumps(accounts).decode())


async def lock_usage(conn: Connection, given: list[dict[str, Any]]) -> None:
    """Until the end of the transaction nobody else uses the limits that these rewards used (`rule_id`, `referrer_id`,
    `made_at`)."""
    await conn.lock("lock_usage", given=orjson.dumps(given).decode())


async def lock_webhook(conn: Connection, webhook_id: str) -> None:
    """Until the end of the transaction nobody else claims deliveries of this webhook, or replays it."""
    await conn.lock("lock_webhook", webhook_id=webhook_id)


async def lock_code_expiries(conn: Connection) -> None:
    """Until the end of the transaction nobody else tells that codes have expired."""
    await conn.lock("lock_code_expiries")


async def lock_webhooks(conn: Connection) -> None:
    """As `lock_webhook`, all that there are. Nobody else who calls this makes one meanwhile."""
    await conn.lock("lock_webhooks")
