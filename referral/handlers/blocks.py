"""Blocks: listed, made and deleted."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, Key
from referral.contract.problems import Problem, invalid
from referral.contract.schemas.blocks import (
    BlockPageSchema,
    BlockQuerySchema,
    BlockRequestSchema,
    BlockSchema,
    block_view,
    blocked_value,
)
from referral.database import DATABASE, Connection
from referral.handlers import API
from referral.queries import blocks
from referral.queries.blocks import Block
from referral.rules.blocking import block, unblock
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY
from referral.web.csv_answers import answer_list

routes = web.RouteTableDef()

BLOCK_PATH = f"{API}/blocks/{{kind}}/{{value:[^/]+}}"


def _no_such_block() -> Problem:
    return Problem("not-found", "There is no such block.")


def _kind(request: web.Request) -> str:
    kind = request.match_info["kind"]
    if kind not in blocks.KINDS:
        raise Problem("not-found", f"There is no such kind of block: they are {', '.join(blocks.KINDS)}.")
    return kind


@routes.get(f"{API}/blocks")
@allow(Access.READ)
@docs(
    tags=["Reviews"],
    operationId="listBlocks",
    summary="All blocks, or those of a kind",
    description="Newest first. `total` counts no further than 10,000.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(BlockQuerySchema)
@response_schema(BlockPageSchema, 200, description="A page of blocks")
async def list_blocks(request: web.Request) -> web.StreamResponse:
    kind = request[QUERY].get("kind")

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[Block], int]:
        time, place = before
        before_kind, _, before_value = place.partition(" ")
        if kind is None:
            total = await blocks.count_blocks(conn, MOST_COUNTED)
            return await blocks.list_blocks(conn, (time, before_kind, before_value), limit), total
        total = await blocks.count_blocks_of_kind(conn, kind, MOST_COUNTED)
        return await blocks.list_blocks_of_kind(conn, kind, (time, before_value), limit), total

    return await answer_list(
        request, "blocks", BlockSchema, read, key=lambda one: (one.created_at, f"{one.kind} {one.value}"), view=block_view
    )


@routes.get(BLOCK_PATH)
@allow(Access.READ)
@docs(
    tags=["Reviews"],
    operationId="getBlock",
    summary="A block",
    description="Addresses and domains are compared without case, domains of any script as their A-labels.",
    problems=("not-found",),
)
@response_schema(BlockSchema, 200, description="The block")
async def get_block(request: web.Request) -> web.Response:
    kind = _kind(request)
    value = blocked_value(kind, request.match_info["value"])
    async with request.app[DATABASE].reader() as conn:
        found = await blocks.find_block(conn, kind, value) if value is not None else None
    if found is None:
        raise _no_such_block()
    return answer(block_view(found))


@routes.put(BLOCK_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Reviews"],
    operationId="putBlock",
    summary="Block an address, a domain or an external id",
    description="The referral by which such a user comes is suspicious by itself. Whoever has the address or the id is "
    "suspected at once; users of a domain are from their next event on. A block keeps nobody out. The note replaces the one "
    "that there was.",
    problems=("not-found",),
    response_headers={201: {"Location": "The block's address"}},
)
@json_schema(BlockRequestSchema, example={"note": "Sold by the hundred"})
@response_schema(BlockSchema, 201, description="It is blocked now")
@response_schema(BlockSchema, 200, description="It was blocked before")
async def put_block(request: web.Request) -> web.Response:
    kind = _kind(request)
    value = blocked_value(kind, request.match_info["value"])
    if value is None:
        raise invalid("", f"The path must end in what can be an {kind}.")
    async with work_on(request) as work:
        await work.hold_caller()
        found, is_new = await block(work, kind, value, request[BODY].get("note"))
    if not is_new:
        return answer(block_view(found))
    return answer(block_view(found), 201, {"Location": request.app[PUBLIC_URL].path(request.rel_url.raw_path)})


@routes.delete(BLOCK_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Reviews"],
    operationId="deleteBlock",
    summary="Delete a block",
    description="What it has made suspicious stays so.",
    responses={204: {"description": "It is blocked no more"}},
    problems=("not-found",),
)
async def delete_block(request: web.Request) -> web.Response:
    kind = _kind(request)
    value = blocked_value(kind, request.match_info["value"])
    async with work_on(request) as work:
        await work.hold_caller()
        if value is None or not await unblock(work, kind, value):
            raise _no_such_block()
    return web.Response(status=204)
