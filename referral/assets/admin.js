// Times in the reader's zone. Without this script they are read in UTC.
"use strict";

const shown = new Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });

for (const time of document.querySelectorAll("time[datetime*='T']")) {
	time.title = time.textContent;
	// A line may end between the day and the time alone.
	time.textContent = shown.format(new Date(time.dateTime)).replaceAll(/(?<!,) |(?<=,) (?=.*, )/g, "\u00a0");
}
