// The identity provider of a product: oidc-provider (npm), as `node oidc-provider.mjs PORT KEYS.json`. A client gets access
// tokens of itself by its credentials, for any resource it names, signed by the first of the keys.
import { readFileSync } from 'node:fs'
import Provider from 'oidc-provider'

const [port, keys] = process.argv.slice(2)
const jwks = JSON.parse(readFileSync(keys, 'utf8'))
const { alg, kid } = jwks.keys[0]

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [{
    client_id: 'user-1', client_secret: 'secret', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
    id_token_signed_response_alg: alg,
  }],
  cookies: { keys: ['tests'] },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (context, resource) => ({
        scope: 'codes', audience: resource, accessTokenTTL: 300, accessTokenFormat: 'jwt',
        jwt: { sign: { alg, kid } },
      }),
    },
  },
  jwks,
})

provider.listen(port, '127.0.0.1')
