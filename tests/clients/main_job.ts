// The main job of the service, done with openapi-fetch and the types that openapi-typescript made: `main_job.js ADDRESS PASSWORD`.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

declare const process: { argv: string[] };

type Schemas = components["schemas"];
// What of a type is open would make this `never` an error.
type Whole<T> = unknown extends T ? never : T;

const [address, password] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: address });
const as = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } });

function check(said: string, fact: boolean): void {
  if (!fact) throw new Error(said);
}

/** What was answered, of its own type; a problem ends the job. */
function whole<T>({ data, error }: { data?: T; error?: Schemas["Problem"] | Schemas["OAuthError"] }): Whole<T> {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data as Whole<T>;
}

// Alice registers and makes a code.
const register = (body: Schemas["Registration"]) => client.POST("/api/v1/auth/register", { body });
const alice: Schemas["Registered"] = whole(await register({ email: "alice@example.com", password }));
const role: "user" | "admin" = alice.user.role;
check("a new account has nothing", role === "user" && alice.user.referrer === null && alice.user.profile === null);
const me = as(alice.access_token);
const create = () => client.POST("/api/v1/codes", { ...me, body: { ttl_days: 30 } });
const code: Schemas["Code"] = whole(await create());
check("the code is active", code.status === "active" && code.max_uses === null);

// A second one is a typed problem, and so is a code that nobody has.
const second = await create();
check("one code at a time", second.error?.type === "/problems/active-code-exists" && second.error.status === 409);
const nobodys = await register({ email: "bob@example.com", password, referral_code: "NOBODYS" });
check("nobody's code", nobodys.error?.type === "/problems/referral-code-invalid" && nobodys.error.reason === "unknown");
const invalid = await register({ email: "bob", password });
check("no address", invalid.error?.errors?.[0]?.pointer === "/email");

// Bob registers by it, and Alice sees him.
const path = { code: code.code };
const found: Schemas["ActiveCode"] = whole(await client.GET("/api/v1/codes/{code}", { params: { path } }));
check("whose code it is", found.referrer.id === alice.user.id);
const bob = whole(await register({ email: "bob@example.com", password, username: "bob", referral_code: code.code }));
check("by whom Bob came", bob.user.referrer?.id === alice.user.id);
const query = { limit: 1 };
const page: Schemas["ReferralPage"] = whole(await client.GET("/api/v1/users/me/referrals", { ...me, params: { query } }));
const next: string | null = page.next_cursor;
check("one page", page.total === 1 && next === null && page.items[0]?.email === "bob@example.com");

// She limits her code, takes the limit away again, and ends it.
for (const max_uses of [5, null]) {
  const edited = whole(await client.PATCH("/api/v1/codes/current", { ...me, body: { max_uses } }));
  check("edited", edited.max_uses === max_uses && edited.uses === 1);
}
const ended = await client.DELETE("/api/v1/codes/current", me);
check("ended", ended.response.status === 204);
const gone = await client.DELETE("/api/v1/codes/current", me);
check("gone", gone.error?.type === "/problems/not-found");

// She signs in elsewhere, refreshes, and fails to.
const form = { "Content-Type": "application/x-www-form-urlencoded" };
const token = (body: Schemas["TokenRequest"]) => client.POST("/api/v1/auth/token", { body, headers: form });
const signedIn: Schemas["Tokens"] = whole(
  await token({ grant_type: "password", username: "alice@example.com", password }),
);
const refreshed = whole(await token({ grant_type: "refresh_token", refresh_token: signedIn.refresh_token }));
const failed = await token({ grant_type: "refresh_token", refresh_token: "none" });
check("no such token", failed.error?.error === "invalid_grant");
const account: Schemas["User"] = whole(await client.GET("/api/v1/users/me", as(refreshed.access_token)));
check("Bob counts", account.referral_count === 1 && account.code === null);

// A neighbour asks what a verifier of her token needs.
const metadata = whole(await client.GET("/.well-known/oauth-authorization-server"));
const keys: Schemas["JsonWebKey"][] = whole(await client.GET("/.well-known/jwks.json")).keys;
check("discovery", metadata.issuer === address && keys.length === 0);

console.log("done");
