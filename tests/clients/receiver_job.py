"""The receiver of webhooks that README shows."""

# README begins here
import os
import sqlite3
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["REFERRAL_WEBHOOK_SECRET"])
database = sqlite3.connect("product.db")
database.execute("CREATE TABLE IF NOT EXISTS received (id TEXT PRIMARY KEY)")


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        status, body = 204, self.rfile.read(int(self.headers["Content-Length"]))
        try:
            message = webhook.verify(body, dict(self.headers))
            with database:  # what the product does lies in the same transaction: both are kept, or neither
                new = database.execute("INSERT OR IGNORE INTO received VALUES (?)", [self.headers["webhook-id"]]).rowcount
                if new and message["type"] == "reward.approved":
                    print("deliver", message["data"]["kind"], message["data"]["value"], flush=True)
        except WebhookVerificationError:
            status = 400
        self.send_response(status)
        self.end_headers()


HTTPServer(("127.0.0.1", 3000), Receiver).serve_forever()
# README ends
