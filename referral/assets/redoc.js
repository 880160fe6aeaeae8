"use strict";
// Native scrollbars: the library's own are drawn by styles that a strict policy refuses.
Redoc.init("/openapi.json", { hideDownloadButton: false, nativeScrollbars: true }, document.getElementById("redoc"));
