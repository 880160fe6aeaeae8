"use strict";
// It keeps by whose link somebody came until they sign up.
{
const { src, dataset: data } = document.currentScript;
let agreed = !("consent" in data), held = "", kept, seen, jar = document;
// Memory stands in for forbidden cookies.
try { jar.cookie; } catch { jar = {}; }

function keep(link, days = data.days || 30) {
  held = link;
  if (!agreed && !kept) return;
  jar.cookie = `referral=${link}; Path=/; Domain=${data.domain ?? ""}; Max-Age=${days * 86400}; SameSite=Lax` +
    (location.protocol === "https:" ? "; Secure" : "");
  if ("clicks" in data && /.\.$/.test(link)) fetch(new URL("api/v1/clicks", src), {
    method: "POST", keepalive: true,
    body: new Blob([JSON.stringify({ code: link.slice(0, -1), url: location.href })], { type: "application/json" }),
  }).then((reply) => reply.json()).then(({ click_id }) => {
    if (look() && click_id && held === link) keep(link + click_id);
  }, () => {});
}

// Routers change the address, and other tabs the cookie.
function look() {
  kept = jar.cookie?.match(/(^| )referral=([\w-]+\.[\w-]*)(;|$)/)?.[2];
  held = kept ?? held;
  const link = [/[?&]ref=([\w-]{4,32})(&|$)/, /[?&]click=([\w-]{1,64})(&|$)/]
    .map((shape) => location.search.match(shape)?.[1]).join(".");
  if (link !== seen && link[0] !== "." && !held.startsWith(link) && !(held[1] && data.model === "first")) keep(link);
  seen = link;
  return held.split(".");
}

function fill() {
  const [ref, click] = look();
  for (const field of document.querySelectorAll("form[data-referral] :is([name=ref], [name=click])[type=hidden]"))
    if (held) field.value = field.name === "ref" ? ref : click;
}

window.referral = {
  get() {
    const [code, click] = look();
    return { code: code || null, click_id: click || null };
  },
  consent(given) {
    look();
    agreed = given;
    if (!given) keep(".", 0);
    else if (held[1] && !kept) keep(held);
    fill();
  },
};
addEventListener("submit", fill, true);
new MutationObserver(fill).observe(document, { childList: true, subtree: true });
fill();
}
