"""The main job of the service, done with a client that openapi-python-client made: `main_job.py ADDRESS PASSWORD`.

It runs beside the generated package, and mypy checks it against that package's types.
"""

import sys
import uuid

from referral_client import AuthenticatedClient, Client
from referral_client.api.authentication import create_token, list_sessions, register
from referral_client.api.codes import create_code, delete_current_code, get_code, update_current_code
from referral_client.api.discovery import get_authorization_server_metadata, get_keys
from referral_client.api.me import get_me, list_my_referrals
from referral_client.models import (
    ActiveCode,
    Code,
    CodeChange,
    CodeCreation,
    CodeStatus,
    GrantType,
    JsonWebKeySet,
    OAuthError,
    OAuthErrorCode,
    Problem,
    ReferralPage,
    RefusalReason,
    Registered,
    Registration,
    Role,
    ServerMetadata,
    SessionPage,
    TokenRequest,
    Tokens,
    TokenType,
    User,
)
from referral_client.types import Unset

address, password = sys.argv[1:]
anybody = Client(base_url=address)

# Alice registers and makes a code.
alice = register.sync(client=anybody, body=Registration(email="alice@example.com", password=password))
assert isinstance(alice, Registered), alice
assert (alice.user.role, alice.token_type) == (Role.USER, TokenType.BEARER)
assert alice.user.username is None
assert alice.user.referrer is None
assert alice.user.profile is None
as_alice = AuthenticatedClient(base_url=address, token=alice.access_token)
code = create_code.sync(client=as_alice, body=CodeCreation(ttl_days=30))
assert isinstance(code, Code), code
assert (code.status, code.max_uses, code.uses) == (CodeStatus.ACTIVE, None, 0)
assert (code.expires_at - code.created_at).days in (29, 30)

# A second one is a typed problem, and so is a code that nobody has.
problem = create_code.sync(client=as_alice, body=CodeCreation(ttl_days=30))
assert isinstance(problem, Problem), problem
assert problem.type_.endswith("/problems/active-code-exists")
assert problem.status == 409
refused = register.sync(
    client=anybody, body=Registration(email="bob@example.com", password=password, referral_code="NOBODYS")
)
assert isinstance(refused, Problem), refused
assert refused.type_.endswith("/problems/referral-code-invalid")
assert refused.reason is RefusalReason.CODE_UNKNOWN
invalid = register.sync(client=anybody, body=Registration(email="bob", password=password))
assert isinstance(invalid, Problem), invalid
assert not isinstance(invalid.errors, Unset)
assert [error.pointer for error in invalid.errors] == ["/email"]

# Bob registers by it, and Alice sees him.
found = get_code.sync(code.code, client=anybody)
assert isinstance(found, ActiveCode), found
assert found.referrer.id == alice.user.id
bob = register.sync(
    client=anybody,
    body=Registration(email="bob@example.com", password=password, username="bob", referral_code=code.code),
)
assert isinstance(bob, Registered), bob
assert bob.user.referrer is not None
assert isinstance(bob.user.referrer.id, uuid.UUID)
page = list_my_referrals.sync(client=as_alice, limit=1)
assert isinstance(page, ReferralPage), page
assert (page.total, page.next_cursor) == (1, None)
assert (page.items[0].id, page.items[0].username, page.items[0].email) == (bob.user.id, "bob", "bob@example.com")

# She limits her code, takes the limit away again, and ends it.
for limit in (5, None):
    edited = update_current_code.sync(client=as_alice, body=CodeChange(max_uses=limit))
    assert isinstance(edited, Code), edited
    assert (edited.max_uses, edited.uses) == (limit, 1)
assert delete_current_code.sync_detailed(client=as_alice).status_code == 204
gone = delete_current_code.sync(client=as_alice)
assert isinstance(gone, Problem), gone
assert gone.type_.endswith("/problems/not-found")

# She signs in elsewhere, refreshes, and fails to.
grant = TokenRequest(grant_type=GrantType.PASSWORD, username="alice@example.com", password=password)
signed_in = create_token.sync(client=anybody, body=grant)
assert isinstance(signed_in, Tokens), signed_in
refresh = TokenRequest(grant_type=GrantType.REFRESH_TOKEN, refresh_token=signed_in.refresh_token)
refreshed = create_token.sync(client=anybody, body=refresh)
assert isinstance(refreshed, Tokens), refreshed
failed = create_token.sync(client=anybody, body=TokenRequest(grant_type=GrantType.REFRESH_TOKEN, refresh_token="none"))
assert isinstance(failed, OAuthError), failed
assert failed.error is OAuthErrorCode.INVALID_GRANT
sessions = list_sessions.sync(client=AuthenticatedClient(base_url=address, token=refreshed.access_token))
assert isinstance(sessions, SessionPage), sessions
assert [session.current for session in sessions.items] == [True, False]
me = get_me.sync(client=as_alice)
assert isinstance(me, User), me
assert (me.referral_count, me.code) == (1, None)

# A neighbour asks what a verifier of her token needs.
metadata = get_authorization_server_metadata.sync(client=anybody)
assert isinstance(metadata, ServerMetadata), metadata
assert metadata.token_endpoint == f"{metadata.issuer}/api/v1/auth/token"
keys = get_keys.sync(client=anybody)
assert isinstance(keys, JsonWebKeySet), keys
assert [key.kid for key in keys.keys] == []

print("done")
