"use strict";
// The calls go to where this page came from: the addresses in the document may be another name of the same service, which the
// page's policy refuses. This script is at {service}/assets/docs.js, also behind a proxy that gives the service a path.
const here = new URL("..", document.currentScript.src).href.replace(/\/$/, "");
fetch(`${here}/openapi.json`)
  .then((response) => response.text())
  .then((text) => {
    const there = JSON.parse(text).servers[0].url;
    const spec = JSON.parse(text, (_, value) =>
      typeof value === "string" && value.startsWith(`${there}/`) ? here + value.slice(there.length) : value,
    );
    window.ui = SwaggerUIBundle({
      spec: { ...spec, servers: [{ url: here }] },
      dom_id: "#swagger-ui",
      deepLinking: true,
      persistAuthorization: false,
      displayRequestDuration: true,
      validatorUrl: null,
    });
  });
