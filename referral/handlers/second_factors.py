"""The second factor of an account: switched on and off by its owner."""

from aiohttp import web
from aiohttp_apispec import docs, json_schema, response_schema

from referral.contract.access import Access, allow
from referral.contract.schemas.second_factors import (
    BegunSecondFactorSchema,
    RecoveryCodesSchema,
    SecondFactorBeginningSchema,
    SecondFactorConfirmationSchema,
    SecondFactorEndSchema,
    SecondFactorSchema,
    second_factor_view,
)
from referral.handlers import API
from referral.rules import second_factors
from referral.web.answers import NO_STORE, answer
from referral.web.bodies import BODY

routes = web.RouteTableDef()

PATH = f"{API}/users/me/second-factor"


@routes.get(PATH)
@allow(Access.USER)
@docs(tags=["Me"], operationId="getSecondFactor", summary="My second factor", description="Whether one is switched on.")
@response_schema(SecondFactorSchema, 200, description="The second factor")
async def get_second_factor(request: web.Request) -> web.Response:
    return answer(second_factor_view(await second_factors.own_second_factor(request)))


@routes.post(PATH)
@allow(Access.USER)
@docs(
    tags=["Me"],
    operationId="beginSecondFactor",
    summary="Begin a second factor",
    description="The answer is for an authenticator app (TOTP, RFC 6238): six digits, every 30 seconds. Nothing changes "
    "until a code of the app has confirmed it, within ten minutes; one that was begun before is replaced.",
    problems=("wrong-password", "second-factor-state", "overloaded"),
)
@json_schema(SecondFactorBeginningSchema)
@response_schema(BegunSecondFactorSchema, 201, description="What the app has to know")
async def begin_second_factor(request: web.Request) -> web.Response:
    begun = await second_factors.begin(request, request[BODY]["password"])
    return answer({"secret": begun.secret, "uri": begun.uri}, 201, NO_STORE)


@routes.post(f"{PATH}/confirm")
@allow(Access.USER)
@docs(
    tags=["Me"],
    operationId="confirmSecondFactor",
    summary="Switch the second factor on",
    description="From here on a sign-in by the password wants a code of the app, or one of the recovery codes in the "
    "answer, which are shown this once. Sessions that there are go on.",
    problems=("wrong-code", "second-factor-state"),
)
@json_schema(SecondFactorConfirmationSchema)
@response_schema(RecoveryCodesSchema, 200, description="It is on")
async def confirm_second_factor(request: web.Request) -> web.Response:
    return answer({"recovery_codes": await second_factors.confirm(request, request[BODY]["code"])}, headers=NO_STORE)


@routes.delete(PATH)
@allow(Access.USER)
@docs(
    tags=["Me"],
    operationId="deleteSecondFactor",
    summary="Switch the second factor off",
    description="It takes the password and a code of the app, or a recovery code; any code for one that was only begun.",
    responses={204: {"description": "The account has none any more"}},
    problems=("wrong-password", "wrong-code", "second-factor-state", "overloaded"),
)
@json_schema(SecondFactorEndSchema)
async def delete_second_factor(request: web.Request) -> web.Response:
    await second_factors.switch_off(request, request[BODY]["password"], request[BODY]["code"])
    return web.Response(status=204)
