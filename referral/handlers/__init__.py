"""The endpoints, each one's story from top to bottom."""

API = "/api/v1"
# Whoever is named: our id, `me`, or `ext:` and an external id. The percent sign before a slash is still there when paths are
# matched.
USER_PATH = f"{API}/users/{{user:[^/]+}}"
# The path excludes the fixed words: `Allow` at their addresses must not list the methods of codes.
CODE_PATH = f"{API}/codes/{{code:(?!current$|by-email$)[^{{}}/]+}}"
