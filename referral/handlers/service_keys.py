"""Service keys, by which a product's back end calls: made, listed and revoked by admins."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.contract.access import Access, allow
from referral.contract.paging import Key
from referral.contract.schemas.pages import ListQuerySchema
from referral.contract.schemas.service_keys import KeyCreationSchema, KeyPageSchema, KeySchema, ShownKeySchema, key_view
from referral.database import Connection
from referral.handlers import API
from referral.ids import new_id
from referral.queries import service_keys
from referral.queries.service_keys import ServiceKey
from referral.rules.service_keys import key_id_of, make_key, revoke_key
from referral.rules.work import work_on
from referral.web.answers import NO_STORE, answer
from referral.web.bodies import BODY
from referral.web.csv_answers import answer_list

routes = web.RouteTableDef()


@routes.post(f"{API}/keys")
@allow(Access.ADMIN)
@docs(
    tags=["Keys"],
    operationId="createKey",
    summary="Make a service key",
    description="The key is in this answer only: the service keeps a hash of it.",
)
@json_schema(KeyCreationSchema, example={"name": "shop", "scope": "write"})
@response_schema(ShownKeySchema, 201, description="The key")
async def create_key(request: web.Request) -> web.Response:
    body = request[BODY]
    async with work_on(request) as work:
        key, text = await make_key(work, new_id(), body["name"], body["scope"])
    return answer({**key_view(key), "key": text}, 201, NO_STORE)


@routes.get(f"{API}/keys")
@allow(Access.ADMIN)
@docs(
    tags=["Keys"],
    operationId="listKeys",
    summary="All service keys",
    description="Those that are not revoked, newest first.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(ListQuerySchema)
@response_schema(KeyPageSchema, 200, description="A page of keys, without the keys themselves")
async def list_keys(request: web.Request) -> web.StreamResponse:
    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[ServiceKey], int]:
        total = await service_keys.count_service_keys(conn)
        return await service_keys.list_service_keys(conn, before, limit), total

    return await answer_list(request, "keys", KeySchema, read, key=lambda key: (key.created_at, key.id), view=key_view)


@routes.delete(f"{API}/keys/{{key_id}}")
@allow(Access.ADMIN)
@docs(
    tags=["Keys"],
    operationId="deleteKey",
    summary="Revoke a service key",
    description="It is refused at its next request, on every worker. It may be the key of this very request.",
    responses={204: {"description": "The key is revoked"}},
    problems=("not-found",),
)
async def delete_key(request: web.Request) -> web.Response:
    key_id = key_id_of(request)
    async with work_on(request) as work:
        await revoke_key(work, key_id)
    return web.Response(status=204)
