"use strict";
// The calls go to where this page came from: the addresses in the document may be another name of the same service, which the
// page's policy refuses.
fetch("/openapi.json")
  .then((response) => response.json())
  .then((spec) => {
    const [there, here] = [spec.servers[0].url, window.location.origin];
    const flow = spec.components.securitySchemes.OAuth2.flows.password;
    flow.tokenUrl = flow.tokenUrl.replace(there, here);
    flow.refreshUrl = flow.refreshUrl.replace(there, here);
    window.ui = SwaggerUIBundle({
      spec: { ...spec, servers: [{ url: here }] },
      dom_id: "#swagger-ui",
      deepLinking: true,
      persistAuthorization: false,
      displayRequestDuration: true,
      validatorUrl: null,
    });
  });
