"use strict";
// The calls go to where this page came from: the address in the document may be another name of the same service, which the
// page's policy refuses.
fetch("/openapi.json")
  .then((response) => response.json())
  .then((spec) => {
    window.ui = SwaggerUIBundle({
      spec: { ...spec, servers: [{ url: window.location.origin }] },
      dom_id: "#swagger-ui",
      deepLinking: true,
      persistAuthorization: false,
      displayRequestDuration: true,
      validatorUrl: null,
    });
  });
