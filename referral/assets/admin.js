// Times in the reader's zone. Without this script they are read in UTC.
"use strict";

const shown = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });

for (const time of document.querySelectorAll("time[datetime*='T']")) {
	time.title = time.textContent;
	time.textContent = shown.format(new Date(time.dateTime));
}
