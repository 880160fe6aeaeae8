// A client of oauth4webapi. `node oauth4webapi.mjs tour|attempt ISSUER USERNAME PASSWORD [TIMES]` prints what came of it as
// JSON; a failure is told by the library's own error.
import * as oauth from 'oauth4webapi'

const [command, issuer, username, password, times] = process.argv.slice(2)
const client = { client_id: 'tests' }
const options = { [oauth.allowInsecureRequests]: true }

async function discover() {
  const expected = new URL(issuer)
  const response = await oauth.discoveryRequest(expected, { ...options, algorithm: 'oauth2' })
  return oauth.processDiscoveryResponse(expected, response)
}

async function signIn(server, given = password) {
  const response = await oauth.genericTokenEndpointRequest(
    server, client, oauth.None(), 'password', { username, password: given }, options)
  return oauth.processGenericTokenEndpointResponse(server, client, response)
}

async function refresh(server, token) {
  const response = await oauth.refreshTokenGrantRequest(server, client, oauth.None(), token, options)
  return oauth.processRefreshTokenResponse(server, client, response)
}

async function revoke(server, token) {
  await oauth.processRevocationResponse(await oauth.revocationRequest(server, client, oauth.None(), token, options))
}

async function validate(server, token, audience) {
  const request = new Request(issuer, { headers: { Authorization: `Bearer ${token}` } })
  return oauth.validateJwtAccessToken(server, request, audience, options)
}

// What the library makes of a request that fails; `accepted` if it does not.
async function failure(promise) {
  try {
    await promise
    return { accepted: true }
  } catch (error) {
    const response = error.response ?? (error.cause instanceof Response ? error.cause : undefined)
    return {
      name: error.name, code: error.code, message: error.message, error: error.error, description: error.error_description,
      status: response?.status, retryAfter: response?.headers.get('Retry-After'),
    }
  }
}

async function tour() {
  const server = await discover()
  const first = await signIn(server)
  const second = await refresh(server, first.refresh_token)
  const claims = await validate(server, second.access_token, 'referral')
  const forOthers = await failure(validate(server, second.access_token, 'somebody else'))
  const noJwt = await failure(validate(server, second.refresh_token, 'referral'))
  const me = await oauth.protectedResourceRequest(
    second.access_token, 'GET', new URL(`${issuer}/api/v1/users/me`), undefined, undefined, options)
  const wrong = await failure(signIn(server, 'a wrong password'))
  await revoke(server, second.refresh_token)
  await revoke(server, second.refresh_token)
  const revoked = await failure(refresh(server, second.refresh_token))
  const ended = await failure(oauth.protectedResourceRequest(
    second.access_token, 'GET', new URL(`${issuer}/api/v1/users/me`), undefined, undefined, options))
  return { server, first, second, claims, forOthers, noJwt, me: await me.json(), wrong, revoked, ended }
}

async function attempt() {
  // Known beforehand, as to a client that has been running for a while.
  const server = {
    issuer, token_endpoint: `${issuer}/api/v1/auth/token`, revocation_endpoint: `${issuer}/api/v1/auth/revoke`,
  }
  const revoked = failure(revoke(server, 'a token'))
  const found = []
  for (let number = 0; number < times; number++) found.push(await failure(signIn(server)))
  return { signIn: found.at(-1), revoke: await revoked }
}

console.log(JSON.stringify(await { tour, attempt }[command]()))
