"""The outbox: mail that waits, and mail that was given up and can be sent after all."""

from aiohttp import web
from aiohttp_apispec import docs, querystring_schema, response_schema

from referral.contract.access import Access, allow
from referral.contract.paging import MOST_COUNTED, Key
from referral.contract.schemas.outbox import OutboxPageSchema, OutboxQuerySchema, QueuedMailSchema, queued_mail_view
from referral.database import Connection
from referral.handlers import API
from referral.queries import outbox
from referral.queries.outbox import QueuedMail
from referral.rules.outbox import mail_id_of, retry_mail
from referral.rules.work import work_on
from referral.web.answers import answer
from referral.web.bodies import QUERY
from referral.web.csv_answers import answer_list

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
async def list_mail(request: web.Request) -> web.StreamResponse:
    status = request[QUERY].get("status")

    async def read(conn: Connection, before: Key, limit: int) -> tuple[list[QueuedMail], int]:
        count = await outbox.count_outbox(conn, MOST_COUNTED)
        if status == "failed":
            return await outbox.list_failed_mail(conn, before, limit), count.failed
        if status == "waiting":
            return await outbox.list_waiting_mail(conn, before, limit), count.waiting
        return await outbox.list_outbox(conn, before, limit), count.waiting + count.failed

    return await answer_list(
        request, "outbox", QueuedMailSchema, read, key=lambda mail: (mail.created_at, mail.id), view=queued_mail_view
    )


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
