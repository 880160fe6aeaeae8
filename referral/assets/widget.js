// <referral-widget token="…"> shows users their share link, who came by it, and what they got. Names stay in its block.
if (!customElements.get("referral-widget")) {
const HERE = new URL(".", document.currentScript?.src ?? location).href;
// Plurals: one|few|many; the last stands for others.
const TEXTS = `
title:Invite friends/Пригласите друзей
link:Your link/Ваша ссылка
code:Your code/Ваш код
copy:Copy/Копировать
copied:Copied/Скопировано
select:Selected: copy it/Выделено: скопируйте
share:Share/Поделиться
qr:QR code of your link/QR-код ссылки
none:You have no active link./У вас нет ссылки.
make:Get a link/Получить ссылку
available:available/доступно
referrals:{n} friend joined|{n} friends joined/{n} друг|{n} друга|{n} друзей
nobody:Nobody yet: share your link/Пока никого: поделитесь ссылкой
somebody:Somebody/Кто-то
joined:Joined/С нами
converted:Qualified/Засчитано
rejected:Not counted/Не засчитано
ended:Left/Не с нами
rewards:Rewards/Награды
pending:Pending/Ожидает
approved:Earned/Начислено
fulfilled:Delivered/Выдано
void:Cancelled/Отменено
reversed:Taken back/Отозвано
hold:until {n}/до {n}
review:in review/на проверке
approval:awaits approval/ждёт одобрения
more:Show more/Показать ещё
loading:Loading…/Загрузка…
error:This did not load./Ошибка загрузки.
retry:Try again/Повторить
expired:Reload the page./Обновите страницу.`;
const STYLE = new CSSStyleSheet();
STYLE.replaceSync(`
:host{display:block; color-scheme:light dark}
:host([theme=light]){color-scheme:light}
:host([theme=dark]){color-scheme:dark}
:host([hidden]), [hidden], .widget > :empty{display:none}
*{box-sizing:border-box; margin:0; padding:0; font:inherit; color:inherit}
.widget{
--accent:var(--referral-accent, light-dark(#2350d2, #9db8ff));
--line:1px solid var(--referral-border, light-dark(#dde1e8, #363c48));
padding:min(5%, 28px); overflow-wrap:anywhere;
font:15px/1.45 var(--referral-font, system-ui, sans-serif);
color:var(--referral-text, light-dark(#171c26, #e9ecf2)); background:var(--referral-background, light-dark(#fff, #171a21))}
.widget, input, button, .balance, .empty{border:var(--line); border-radius:var(--referral-radius, 10px)}
.widget, section, .row, .lists, ul{display:flex; flex-wrap:wrap; gap:8px; list-style:""}
.widget, .invite, .lists{gap:22px 28px}
section, .row{flex:1 1 16em; align-content:start}
.widget, .invite{align-items:center}
.row{align-items:end}
.invite, .lists, ul, h2, h3{width:100%}
h2, h3, strong, .copy, .make{font-weight:600}
h2, strong{font-size:1.35em}
small, .empty{font-size:.87em; opacity:.75}
small, strong{display:block}
input, button{min-height:40px; padding:0 14px; background:none}
label{flex:99 1 15em}
input{width:100%; margin-top:5px; text-overflow:ellipsis}
button{flex:1 0 auto; cursor:pointer}
button:hover{filter:brightness(.93)}
.make{flex:none}
.copy, .make{color:var(--referral-on-accent, light-dark(#fff, #0c1530)); background:var(--accent); border:0}
:focus-visible{outline:2px solid var(--accent); outline-offset:2px}
img{margin:auto}
.item{display:flex; gap:12px; width:100%; justify-content:space-between; align-items:center}
.item + *{border-top:var(--line); padding-top:8px}
.status{flex:none; padding:2px 9px; border-radius:99px; font-size:.82em; background:color-mix(in srgb, currentColor 11%, #0000)}
.converted, .approved, .fulfilled{color:var(--accent)}
.balance, .empty{flex:1 1 9em; padding:14px}
.empty{text-align:center}
.said{position:fixed; clip-path:inset(50%)}`);
const el = (tag, part, ...children) => {
	const made = Object.assign(document.createElement(tag), { part, className: part });
	made.append(...children.filter(Boolean));
	return made;
};

const show = (host, root, signal) => {
	const given = (name, otherwise) => host.getAttribute(name) ?? otherwise;
	const service = given("service", HERE).replace(/\/*$/, "");
	const { lang } = host.closest("[lang]") ?? document.documentElement;
	const locale = /^[a-z]{2,3}(-[a-z]{2})?(?![a-z])/i.exec(lang || navigator.language)?.[0];
	const text = (name, n = "") => {
		const ours = RegExp(`^${name}:(.+)/(.+)`, "m").exec(TEXTS)?.[/^ru/i.test(locale) ? 2 : 1];
		const forms = given(`text-${name}`, ours ?? name).split("|");
		const which = ["one", "few", "many"].indexOf(new Intl.PluralRules(locale).select(n));
		return (forms[which] ?? forms.at(-1)).replace("{n}", () => n.toLocaleString(locale));
	};
	const date = (time) => new Date(time).toLocaleDateString(locale, { dateStyle: "medium" });
	const money = (unit, amount) => {
		const own = given("units", "").match(`\\b${unit}:(\\d)`);
		const style = !own && unit.length === 3 && { style: "currency", currency: unit };
		// ISO 4217's, as amounts are meant: Intl shortens some.
		const digits = own ? own[1] : !style || /BIF|CLP|DJF|GNF|ISK|JPY|KMF|KRW|PYG|RWF|UGX|VND|VUV|XAF|XOF|XPF/.test(unit) ? 0
			: /BHD|IQD|JOD|KWD|LYD|OMR|TND/.test(unit) ? 3 : 2;
		const shown = (amount / 10 ** digits).toLocaleString(locale, { ...style, minimumFractionDigits: digits });
		return style ? shown : `${shown}\xa0${unit}`;
	};

	const box = el("div", "widget", el("p", "loading", text("loading")));
	const said = el("output", "said");
	const say = (name) => (said.textContent = name && text(name));
	root.append(box, said);

	const ask = async (path, body) => {
		const headers = { Authorization: `Bearer ${given("token")}`, "Content-Type": "application/json" };
		const answer = await fetch(`${service}/api/v1/users/me${path}`, { method: body && "POST", headers, body, signal });
		// 409: there is a code by now.
		if (answer.ok || answer.status === 409) return answer.json();
		throw answer;
	};
	// When its work failed, a button does it again.
	const button = (name, work) => {
		const made = el("button", name, text(name));
		made.onclick = async () => {
			if (made.ariaBusy) return;
			made.ariaBusy = "true";
			try {
				await work();
				made.textContent = text(name);
			} catch ({ status }) {
				const expired = status === 401;
				const sentence = el("p", "error", say(expired ? "expired" : "error"));
				made.textContent = text("retry");
				if (expired || !made.isConnected) box.replaceChildren(sentence, expired ? "" : made);
				if (expired) host.dispatchEvent(new CustomEvent("referral-token", { bubbles: true, composed: true }));
			}
			made.ariaBusy = null;
		};
		return made;
	};

	const invite = (code, url) => {
		if (code?.status !== "active")
			return el("section", "invite", el("p", "none", text("none")), button("make", async () => {
				await ask("/codes", JSON.stringify({ ttl_days: +given("ttl-days", 365) }));
				await load();
				box.querySelector("button").focus();
			}));
		const value = url ?? code.code;
		const input = Object.assign(el("input", "input"), { value, readOnly: true, dir: "ltr" });
		const copy = button("copy", async () => {
			try {
				await navigator.clipboard.writeText(value);
				copy.textContent = say("copied");
				await new Promise((done) => setTimeout(done, 2000));
				say("");
			} catch {
				input.focus();
				input.select();
				say("select");
			}
		});
		const share = navigator.share && button("share", () => navigator.share(url ? { url } : { text: value }).catch(() => {}));
		return el("section", "invite",
			el("div", "row", el("label", "", el("small", "", text(url ? "link" : "code")), input), copy, share),
			url && Object.assign(el("img", "qr"), { src: `${service}/r/${code.code}/qr.svg`, alt: text("qr"), width: 112 }));
	};

	const list = async (what, contentsOf) => {
		let cursor = "";
		const items = el("ul", "list");
		const add = async () => {
			const page = await ask(`/${what}?limit=${given("limit", 5)}${cursor}`);
			const rows = page.items.map((one) => {
				const [name, detail] = contentsOf(one);
				return el("li", "item", el("div", "", el("bdi", "name", name), el("small", "", detail)),
					el("span", `status ${one.status}`, text(one.status)));
			});
			items.append(...rows);
			if (cursor) {
				rows[0].tabIndex = -1;
				rows[0].focus();
			}
			cursor = `&cursor=${page.next_cursor}`;
			more.hidden = !page.next_cursor;
			return page.total;
		};
		const more = button("more", add);
		const total = await add();
		return total && el("section", what, el(text("title") ? "h3" : "h2", "heading", text(what, total)), items, more);
	};

	const load = async () => {
		const [me, { items }, referrals, rewards] = await Promise.all([ask(""), ask("/balances"),
			list("referrals", (one) => [one.name ?? one.username ?? text("somebody"), date(one.joined_at)]),
			list("rewards", ({ label, value, ...one }) => [
				[label, value && money(value.unit, value.amount - one.reversed || value.amount)].filter(Boolean).join(" · "),
				one.waiting_for.map((what) => text(what, date(one.release_at))).join(", ") || date(one.created_at)])]);
		say("");
		box.replaceChildren(el("h2", "title", text("title")), invite(me.code, me.url),
			el("ul", "balances", ...items.map(({ unit, available, pending }) => el("li", "balance",
				el("strong", "amount", money(unit, available)), text("available"),
				pending && el("small", "", `${text("pending")}: ${money(unit, pending)}`)))),
			el("div", "lists", referrals || el("p", "empty", text("nobody")), rewards));
	};
	button("retry", load).click();
};

customElements.define("referral-widget", class extends HTMLElement {
	static observedAttributes = ["token", "lang", "service"];
	#root = this.attachShadow({ mode: "open" });
	#load = new AbortController();

	async connectedCallback() {
		this.#load.abort();
		const { signal } = (this.#load = new AbortController());
		this.#root.adoptedStyleSheets = [STYLE];
		this.#root.replaceChildren();
		// Attributes that are set together load once.
		await null;
		if (!signal.aborted && this.isConnected && this.getAttribute("token")) show(this, this.#root, signal);
	}
	disconnectedCallback() { this.connectedCallback(); }
	attributeChangedCallback(_, before, now) { if (before !== now) this.connectedCallback(); }
});
}
