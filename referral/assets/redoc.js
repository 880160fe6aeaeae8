"use strict";
// This script is at {service}/assets/redoc.js, also behind a proxy that gives the service a path. Native scrollbars: the
// library's own are drawn by styles that a strict policy refuses.
const document_url = new URL("../openapi.json", document.currentScript.src).href;
Redoc.init(document_url, { hideDownloadButton: false, nativeScrollbars: true }, document.getElementById("redoc"));
