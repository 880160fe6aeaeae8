// The receiver of webhooks that README shows.

// README begins here
import { createServer } from "node:http";
import { DatabaseSync } from "node:sqlite";
import { Webhook } from "standardwebhooks";

const webhook = new Webhook(process.env["REFERRAL_WEBHOOK_SECRET"]!);
const database = new DatabaseSync("product.db");
database.exec("CREATE TABLE IF NOT EXISTS received (id TEXT PRIMARY KEY)");

createServer(async (request, response) => {
  let body = "";
  for await (const chunk of request) body += chunk;
  let message: any;
  try {
    message = webhook.verify(body, request.headers as Record<string, string>);
  } catch {
    return response.writeHead(400).end();
  }
  database.exec("BEGIN"); // what the product does lies in the same transaction: both are kept, or neither
  const id = request.headers["webhook-id"] as string;
  const isNew = database.prepare("INSERT OR IGNORE INTO received VALUES (?)").run(id).changes;
  if (isNew && message.type === "reward.approved") console.log("deliver", message.data.kind, message.data.value);
  database.exec("COMMIT");
  response.writeHead(204).end();
}).listen(3000, "127.0.0.1");
// README ends
