// Runs in the user's browser: asks the shop for a token of the user's, and by it the referral service for who came by them.
const list = document.getElementById("referrals");

async function showReferrals() {
  const token = await (await fetch("/token")).text();
  const answer = await fetch(`${list.dataset.service}/api/v1/users/me/referrals`, {
    headers: { Authorization: `Bearer ${token}` },
  });
  if (!answer.ok) throw new Error(`The referral service answered ${answer.status}`);
  for (const referral of (await answer.json()).items) {
    const day = new Date(referral.joined_at).toLocaleDateString();
    const item = document.createElement("li");
    item.textContent = `${referral.email ?? "Somebody"}, since ${day}`;
    list.append(item);
  }
}

showReferrals().catch((error) => {
  console.warn(error);
  list.textContent = "This cannot be shown now.";
});
