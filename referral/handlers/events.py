"""Events: what the product reports of its users, one by one or in batches."""

import asyncio
from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, json_schema, querystring_schema, response_schema

from referral.auth.identity import KEY
from referral.config.public_url import PUBLIC_URL
from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, Key
from referral.contract.problems import Problem
from referral.contract.schemas.events import (
    EventBatchSchema,
    EventPageSchema,
    EventQuerySchema,
    EventReportSchema,
    EventSchema,
    event_view,
)
from referral.contract.schemas.recorded_events import EventBatchResultSchema, RecordedEventSchema
from referral.database import DATABASE, Connection, TransactionConflict
from referral.database.retries import RETRIES
from referral.handlers import API
from referral.ids import REQUEST_ID
from referral.limits import LIMITER
from referral.queries import events
from referral.queries.events import ReportedEvent
from referral.rules.events import record_event
from referral.rules.idempotency import REPLAYED, Answered
from referral.rules.named_user import id_of_named
from referral.texts import is_external_id
from referral.web.answers import answer
from referral.web.bodies import BODY, QUERY, load, read_json
from referral.web.callers import KEY_LIMIT
from referral.web.csv_answers import answer_list

routes = web.RouteTableDef()

# Bytes of a batch.
BATCH_BODY = 2 * 1024 * 1024
REPORT = EventReportSchema()


@routes.post(f"{API}/events")
@allow(Access.WRITE)
@docs(
    tags=["Events"],
    operationId="reportEvent",
    summary="Report an event",
    description="Recorded once for each `id`, for ever: the same report again is answered as the first time, with 200 and "
    "`Idempotency-Replayed: true`; another one with the same id is refused. The user is made or changed by it as by `PUT "
    "/users/{user}`. A `code` or `click_id` that cannot be used fails nothing: `attribution` says what became of it. Nor "
    "does an e-mail address or a username that another user has: `ignored` names it. `rewards` are what rules give for "
    "it, and `skipped` says why others give nothing; a refund takes back from the rewards of its event in proportion, and "
    "those that it changed are its `rewards`. A repetition is answered with the referral as it is now. A member that is "
    "null and one that is left out are two reports.",
    problems=(
        "not-found",
        "event-mismatch",
        "event-unknown",
        "refund-too-large",
        "sum-too-large",
        "unit-unknown",
    ),
    request_examples={
        "purchase": {
            "id": "in_1QXyz",
            "type": "purchase",
            "user": {"external_id": "42", "email": "bob@example.com"},
            "value": {"unit": "USD", "amount": 4900},
            "code": "8ZK4M2QA",
        },
        "refund": {"id": "re_7Abc", "type": "refund", "refunds": "in_1QXyz", "value": {"unit": "USD", "amount": 900}},
    },
    response_headers={200: {"Idempotency-Replayed": "`true`: the answer is that of the first report"}},
)
@json_schema(EventReportSchema)
@response_schema(RecordedEventSchema, 201, description="The event is recorded")
@response_schema(RecordedEventSchema, 200, description="It was recorded before")
async def report_event(request: web.Request) -> web.Response:
    recorded = await record_event(request, request[BODY], await read_json(request))
    return answer(recorded.document, 200, REPLAYED) if recorded.is_repeated else answer(recorded.document, 201)


@routes.post(f"{API}/events/batch")
@allow(Access.WRITE, max_body=BATCH_BODY)
@docs(
    tags=["Events"],
    operationId="reportEvents",
    summary="Report up to 500 events",
    description="Each is recorded, or refused, by itself and in this order. The body has at most 2 MiB. Each counts against "
    "the key's limit.",
)
@json_schema(EventBatchSchema, example={"events": [{"id": "in_1QXyz", "type": "purchase", "user": {"external_id": "42"}}]})
@response_schema(EventBatchResultSchema, 200, description="What became of each")
async def report_events(request: web.Request) -> web.Response:
    given, key = request[BODY]["events"], request.get(KEY)
    if key is not None and len(given) > 1:
        # The request was counted as one.
        await request.app[LIMITER].hit(KEY_LIMIT, key.id, hits=len(given) - 1)
    return answer({"results": [await _result(request, report) for report in given]})


async def _result(request: web.Request, report: Any) -> dict[str, Any]:
    # A report that is refused waits for nothing; others must not wait for hundreds of them.
    await asyncio.sleep(0)
    try:
        recorded = await _record_again(request, load(REPORT, report), report)
    except Problem as problem:
        document = problem.document(request, request[REQUEST_ID], request.app[PUBLIC_URL])
        return {"status": problem.kind.status, "body": document}
    return {"status": 200 if recorded.is_repeated else 201, "body": recorded.document}


async def _record_again(request: web.Request, body: dict[str, Any], report: Any) -> Answered:
    """As `record_event`, made again by itself if another transaction undoes it: the batch is not."""
    while True:
        try:
            return await record_event(request, body, report)
        except TransactionConflict:
            if not await request[RETRIES].pause():
                raise


@routes.get(f"{API}/events/{{event_id:(?!batch$)[^/]+}}")
@allow(Access.READ)
@docs(
    tags=["Events"],
    operationId="getEvent",
    summary="An event",
    description="By the id that the caller gave it, percent-encoded.",
    problems=("not-found",),
)
@response_schema(EventSchema, 200, description="The event")
async def get_event(request: web.Request) -> web.Response:
    event_id, found = request.match_info["event_id"], None
    if is_external_id(event_id):
        async with request.app[DATABASE].reader() as conn:
            found = await events.find_reported_event(conn, event_id)
    if found is None:
        raise Problem("not-found", "There is no such event.")
    return answer(event_view(found))


@routes.get(f"{API}/events")
@allow(Access.READ)
@docs(
    tags=["Events"],
    operationId="listEvents",
    summary="All events, or those of a user or type",
    description="Those reported last come first. `total` counts no further than 10,000.",
    problems=("not-found",),
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(EventQuerySchema)
@response_schema(EventPageSchema, 200, description="A page of events")
async def list_events(request: web.Request) -> web.StreamResponse:
    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[ReportedEvent], int]:
        return await _find_events(conn, request[QUERY], before, limit)

    return await answer_list(
        request, "events", EventSchema, read, key=lambda event: (event.received_at, event.id), view=event_view
    )


async def _find_events(conn: Connection, query: dict[str, Any], before: Key, limit: int) -> tuple[list[ReportedEvent], int]:
    kind, since = query.get("type"), query.get("since", 0)
    if "user" in query:
        user_id = await id_of_named(conn, query["user"])
        found = await events.list_events_of_user(conn, user_id, kind, since, before, limit)
        return found, await events.count_events_of_user(conn, user_id, kind, since, MOST_COUNTED)
    if kind is not None:
        found = await events.list_events_of_type(conn, kind, since, before, limit)
        return found, await events.count_events_of_type(conn, kind, since, MOST_COUNTED)
    return await events.list_events(conn, since, before, limit), await events.count_events(conn, since, MOST_COUNTED)
