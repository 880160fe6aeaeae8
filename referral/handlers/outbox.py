"""The outbox: mail that waits, and mail that was given up and can be sent after all."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, page, read_cursor
from referral.contract.schemas.outbox import OutboxPageSchema, OutboxQuerySchema, QueuedMailSchema, queued_mail_view
from referral.database import DATABASE
from referral.handlers import API
from referral.queries import outbox
from referral.rules.outbox import mail_id_of, retry_mail
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import QUERY

routes = web.RouteTableDef()

OUTBOX_PATH = f"{API}/outbox"


@routes.get(OUTBOX_PATH)
@allow(Access.ADMIN)
@docs(
    tags=["Operations"],
    operationId="listOutbox",
    summary="Mail that waits, and mail that failed",
    description="Newest first. What was sent is not kept. `total` counts no further than 10,000 of each status.",
    response_headers={200: {"Link": 'The next page, rel="next"'}},
)
@querystring_schema(OutboxQuerySchema)
@response_schema(OutboxPageSchema, 200, description="A page of mail")
async def list_mail(request: web.Request) -> web.Response:
    query = request[QUERY]
    limit, before, status = query["limit"], read_cursor(query), query.get("status")
    async with request.app[DATABASE].replica() as conn:
        count = await outbox.count_outbox(conn, MOST_COUNTED)
        if status == "failed":
            found, total = await outbox.list_failed_mail(conn, before, limit + 1), count.failed
        elif status == "waiting":
            found, total = await outbox.list_waiting_mail(conn, before, limit + 1), count.waiting
        else:
            found, total = await outbox.list_outbox(conn, before, limit + 1), count.waiting + count.failed
    document, headers = page(
        request, found, limit, total, key=lambda mail: (mail.created_at, mail.id), view=queued_mail_view
    )
    return answer(document, headers=headers)


@routes.post(f"{OUTBOX_PATH}/{{mail_id}}/retry")
@allow(Access.ADMIN)
@docs(
    tags=["Operations"],
    operationId="retryMail",
    summary="Send a mail now",
    description="With all its attempts anew, whether it waits or was given up.",
    problems=("not-found",),
)
@response_schema(QueuedMailSchema, 200, description="The mail, which waits")
async def send_mail_again(request: web.Request) -> web.Response:
    mail_id = mail_id_of(request)
    async with work_on(request) as work:
        mail = await retry_mail(work, mail_id)
    return answer(queued_mail_view(mail))
