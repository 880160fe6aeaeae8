"""HTTP around the handlers: the server, the middlewares, bodies, headers and pages."""
