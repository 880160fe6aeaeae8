// What README shows of a back end and of a page in TypeScript, run as it is shown: `REFERRAL_KEY=… beside_job.js TOKEN`, beside
// the service at its default address, with the types that openapi-typescript made.
declare const process: { argv: string[]; env: Record<string, string> };

// README begins: the back end
import createClient from "openapi-fetch";
import type { paths } from "./schema.js"; // by openapi-typescript http://127.0.0.1:8000/openapi.json

const service = createClient<paths>({
  baseUrl: "http://127.0.0.1:8000",
  headers: { Authorization: `Bearer ${process.env["REFERRAL_KEY"]}` },
});

const path = { user: "ext:1" };
const body = { name: "Alice", code: { ttl_days: 365 } };
const alice = await service.PUT("/api/v1/users/{user}", { params: { path }, body });
const code = alice.data?.code?.code;

const bob = { external_id: "2" };
const signup = await service.POST("/api/v1/events", { body: { id: "signup-2", type: "signup", user: bob, code } });
const value = { unit: "USD", amount: 4900 };
const purchase = await service.POST("/api/v1/events", { body: { id: "order-7", type: "purchase", user: bob, value } });
console.log(signup.data?.attribution.status, purchase.data?.attribution.status); // attributed kept

const referrals = await service.GET("/api/v1/users/{user}/referrals", { params: { path } });
console.log(referrals.data?.items.map((referral) => referral.joined_at));
// README ends

// README begins: the page
const client = createClient<paths>({ baseUrl: "http://127.0.0.1:8000" });

async function myReferrals(token: string) {
  const headers = { Authorization: `Bearer ${token}` };
  const { data, error } = await client.GET("/api/v1/users/me/referrals", { headers });
  if (!data) throw new Error(error.detail);
  return data.items.map(({ name, joined_at }) => `${name ?? "Somebody"}, since ${joined_at}`);
}
// README ends

console.log(await myReferrals(process.argv[2] as string));
