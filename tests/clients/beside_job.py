"""What README shows of a back end in Python, run as it is shown: `REFERRAL_KEY=… beside_job.py`, beside the service at its
default address."""

# README begins
import os

import httpx

service = httpx.Client(
    base_url="http://127.0.0.1:8000/api/v1",
    headers={"Authorization": f"Bearer {os.environ['REFERRAL_KEY']}"},
    timeout=2,
)

alice = service.put("/users/ext:1", json={"name": "Alice", "code": {"ttl_days": 365}}).raise_for_status().json()
code = alice["code"]["code"]

bob = {"external_id": "2"}
signup = {"id": "signup-2", "type": "signup", "user": bob, "code": code}
purchase = {"id": "order-7", "type": "purchase", "user": bob, "value": {"unit": "USD", "amount": 4900}}
for event in (signup, purchase):
    print(service.post("/events", json=event).raise_for_status().json()["attribution"]["status"])  # attributed, then kept

for referral in service.get("/users/ext:1/referrals").raise_for_status().json()["items"]:
    print(referral["id"], referral["joined_at"])
# README ends
