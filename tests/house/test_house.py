"""The rules of the house: who imports whom, one function one statement, documented names, settings and problems in use."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from referral.config import Config
from referral.contract.catalogue import BY_STATUS, CATALOGUE
from referral.database.statements import SQL, load_statements
from referral.web.admin_pages import is_page
from tests.conftest import Client
from tests.support.endpoints import OAUTH, PAGES
from tests.support.people import Answer, Person

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "referral"
MODULES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in PACKAGE.rglob("*.py")
}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.fixture
def engine() -> str:
    """Nothing here depends on the dialect."""
    return "sqlite"


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports_of(module: str) -> set[str]:
    """The modules that a module imports, as it names them, in its functions, too."""
    found: set[str] = set()
    for node in ast.walk(tree_of(MODULES[module])):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def ours(names: set[str]) -> set[str]:
    return {name for name in names if name.partition(".")[0] == "referral"}


# Who imports whom

# The rooms, from the ground up: a file in a new place needs a line here, a new file in a room needs none. Nothing imports a
# higher rank. A file that lies in no folder is ground, unless it is named.
RANKS: tuple[tuple[str, ...], ...] = (
    ("ground", "config"),
    ("database",),
    ("queries",),
    ("auth", "cache", "mail", "contract", "ledger", "changes"),
    ("vendors", "webhooks", "background", "limits"),
    ("rules", "web"),
    ("handlers",),
    ("app", "commands"),
    ("workers",),
)
# Who may import another room of its own rank.
SIDEWAYS = {
    ("ground", "config"),
    ("contract", "auth"),
    ("changes", "contract"),
    ("web", "rules"),
    ("background", "vendors"),
    ("background", "webhooks"),
    ("commands", "app"),
}
# Libraries that one part of the house knows, and nobody else.
ONLY_IN = {
    "sqlite3": "referral.database",
    "aiosqlite": "referral.database",
    "asyncpg": "referral.database",
    "psycopg": "referral.database",
    "yoyo": "referral.database",
    "aiosql": "referral.database",
    "redis": "referral.cache.redis",
    "hiredis": "referral.cache.redis",
    "bcrypt": "referral.auth.passwords",
    "aiosmtplib": "referral.mail.smtp",
    "gunicorn": "referral.workers",
    "limits": "referral.limits",
    "cryptography": "referral.auth",
    "pyotp": "referral.auth.totp",
    "standardwebhooks": "referral.webhooks.signing",
}


ROOM_RANK = {room: rank for rank, rooms in enumerate(RANKS) for room in rooms}


def room_of(module: str) -> str:
    """The folder below `referral/` that a module lies in, itself for a file that has a rank of its own, or ground."""
    name = module.removeprefix("referral").removeprefix(".").partition(".")[0]
    if (PACKAGE / name).is_dir() and name:
        return name
    return name if name in ROOM_RANK else "ground"


def test_every_folder_is_a_room_and_every_room_exists() -> None:
    folders = {file.parent.name for file in PACKAGE.glob("*/*.py")}
    assert folders <= ROOM_RANK.keys()
    assert {room_of(module) for module in MODULES} == ROOM_RANK.keys()
    assert {room for pair in SIDEWAYS for room in pair} <= ROOM_RANK.keys()


def test_nothing_imports_a_higher_rank_and_sideways_only_what_is_named() -> None:
    sideways = set()
    for module in MODULES:
        here = room_of(module)
        for name in ours(imports_of(module)) - {"referral"}:
            there = room_of(name)
            if here == there:
                continue
            assert ROOM_RANK[there] <= ROOM_RANK[here], f"{module} imports {name}: up"
            if ROOM_RANK[there] == ROOM_RANK[here]:
                assert (here, there) in SIDEWAYS, f"{module} imports {name}: sideways"
                sideways.add((here, there))
    assert sideways == SIDEWAYS, "nothing is named that nobody needs"


def test_queries_know_the_database_alone() -> None:
    for module in MODULES:
        if module.startswith("referral.queries."):
            known = ours(imports_of(module)) - {"referral.clock"}
            assert {room_of(name) for name in known} <= {"database", "queries"}, module


def test_handlers_know_no_handler() -> None:
    for module in MODULES:
        if module.startswith("referral.handlers."):
            others = {name for name in ours(imports_of(module)) if name.startswith("referral.handlers.")}
            assert others == set(), module


def test_imports_go_in_no_circle() -> None:
    # Those in functions, too, which only hide a circle.
    needs = {module: ours(imports_of(module)) - {module} for module in MODULES}
    while needs:
        free = {module for module, names in needs.items() if not names & needs.keys()}
        assert free, f"these import one another: {sorted(needs)}"
        needs = {module: names for module, names in needs.items() if module not in free}


def test_each_driver_is_known_in_one_place() -> None:
    used = set()
    for module in MODULES:
        for name in imports_of(module):
            owner = ONLY_IN.get(name.partition(".")[0])
            if owner:
                assert module.startswith(owner), f"{module} imports {name}"
                used.add(name.partition(".")[0])
    assert used == ONLY_IN.keys()


def test_every_library_that_is_imported_is_required_by_its_exact_version() -> None:
    first_group = (ROOT / "requirements.txt").read_text().partition("\n\n")[0]
    required = {re.split(r"[\[=]", line)[0].lower() for line in first_group.splitlines() if not line.startswith("#")}
    distributions = packages_distributions()
    for module in MODULES:
        for library in {name.partition(".")[0] for name in imports_of(module)} - sys.stdlib_module_names - {"referral"}:
            names = {name.lower().replace("_", "-") for name in distributions[library]}
            assert names & required, f"{module} imports {library}"


def test_sql_stands_in_sql_files_alone() -> None:
    pattern = re.compile(r"^\s*(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM)\s", re.DOTALL)
    for module, file in MODULES.items():
        if not module.startswith("referral.database"):
            for node in ast.walk(tree_of(file)):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    assert not pattern.match(node.value), f"{module}: {node.value}"


# Statements and their functions

# A function whose statement has a name of its own says so in its docstring; there is none now.
NAMED_OTHERWISE: dict[str, str] = {}


def query_functions() -> Iterator[tuple[str, Function]]:
    for module, file in MODULES.items():
        if module.startswith("referral.queries."):
            for node in tree_of(file).body:
                if isinstance(node, Function) and not node.name.startswith("_"):
                    yield module, node


METHODS = {"run", "one", "all", "page", "value", "values", "lock", "defer"}


def statements_called(function: Function) -> list[str]:
    """The names given to the methods of a connection."""
    found = []
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            assert isinstance(node.func.value, ast.Name)
            assert node.func.value.id == "conn"
            assert isinstance(node.args[0], ast.Constant)
            found.append(str(node.args[0].value))
    return found


def test_one_query_function_is_one_statement_of_its_name() -> None:
    functions = list(query_functions())
    assert len(functions) > 40
    for module, function in functions:
        expected = NAMED_OTHERWISE.get(function.name, function.name)
        assert statements_called(function) == [expected], f"{module}.{function.name}"
        assert isinstance(function, ast.AsyncFunctionDef)
        assert function.args.args[0].arg == "conn", f"{module}.{function.name}"


def test_every_statement_is_run_by_one_function_and_every_dialect_has_it() -> None:
    called = Counter(name for _, function in query_functions() for name in statements_called(function))
    assert set(called.values()) == {1}
    assert load_statements("postgres").keys() == called.keys()
    # SQLite needs no locks.
    locks = set(re.findall(r"-- name: (\w+)", (SQL / "locks.postgres.sql").read_text()))
    assert load_statements("sqlite").keys() == called.keys() - locks


def test_every_query_function_is_used() -> None:
    used = {node.attr for file in MODULES.values() for node in ast.walk(tree_of(file)) if isinstance(node, ast.Attribute)}
    assert {function.name for _, function in query_functions()} - used == set()


def test_names_of_statements_are_unique() -> None:
    for dialect, other in (("sqlite", "postgres"), ("postgres", "sqlite")):
        names = Counter(
            name
            for file in SQL.glob("*.sql")
            if not file.name.endswith(f".{other}.sql")
            for name in re.findall(r"^-- name: (\w+)", file.read_text(), re.MULTILINE)
        )
        assert names.most_common(1)[0][1] == 1
        assert names.keys() == load_statements(dialect).keys()


# Documentation


def is_documented_elsewhere(node: Function | ast.ClassDef, bases: set[str], contracts: set[str]) -> bool:
    """A handler says it in `@docs`, a schema in its fields, a table of settings in config.toml, a method at its protocol."""
    decorators = {ast.unparse(decorator).partition("(")[0] for decorator in node.decorator_list}
    if isinstance(node, ast.ClassDef):
        named = {ast.unparse(base) for base in node.bases}
        return "dataclass" in decorators or bool(named & {"Schema", "Protocol"}) or any("Schema" in base for base in named)
    return "docs" in decorators or node.name in contracts or bool(bases)


def protocol_methods() -> set[str]:
    return {
        method.name
        for file in MODULES.values()
        for node in tree_of(file).body
        if isinstance(node, ast.ClassDef) and "Protocol" in {ast.unparse(base) for base in node.bases}
        for method in node.body
        if isinstance(method, Function)
    }


def raises(function: Function) -> bool:
    return any(isinstance(node, ast.Raise) for node in ast.walk(function))


def undocumented(node: ast.AST, contracts: set[str], bases: set[str], prefix: str) -> Iterator[str]:
    for child in getattr(node, "body", []):
        if not isinstance(child, Function | ast.ClassDef) or child.name.startswith("_"):
            continue
        name = f"{prefix}.{child.name}"
        # What is a statement or two long says it itself, unless it raises; marshmallow's Meta is no class of anybody's.
        short = child.name == "Meta" or (isinstance(child, Function) and len(child.body) <= 2 and not raises(child))
        if not (ast.get_docstring(child) or short or is_documented_elsewhere(child, bases, contracts)):
            yield name
        if isinstance(child, ast.ClassDef):
            inherited = {ast.unparse(base) for base in child.bases} - {"Protocol", "Exception"}
            yield from undocumented(child, contracts, inherited, name)


def test_public_functions_and_classes_say_what_they_promise() -> None:
    missing: list[str] = []
    for module, file in sorted(MODULES.items()):
        if file.stat().st_size:
            assert ast.get_docstring(tree_of(file)), f"{module} says nothing of itself"
        # A query is its statement, which is commented in `sql/`, and two lines that turn rows into dataclasses.
        if not module.startswith("referral.queries."):
            missing += undocumented(tree_of(file), protocol_methods(), set(), module)
    assert missing == []


def test_every_test_file_says_what_it_covers() -> None:
    # Below the folders of subjects there is only what npm installs.
    for file in (*(ROOT / "tests").glob("*.py"), *(ROOT / "tests").glob("*/*.py")):
        if file.name != "__init__.py":
            assert ast.get_docstring(tree_of(file)), file.name


# Settings and problems


def test_every_setting_is_in_use() -> None:
    used = set()
    for module, file in MODULES.items():
        if module != "referral.config":
            for node in ast.walk(tree_of(file)):
                if isinstance(node, ast.Attribute):
                    used.add((ast.unparse(node.value).rpartition(".")[2].strip("_"), node.attr))
    used |= {
        (ast.unparse(node.value).rpartition(".")[2], node.attr)
        for node in ast.walk(tree_of(ROOT / "run.py"))
        if isinstance(node, ast.Attribute)
    }
    for section in fields(Config):
        assert isinstance(section.type, type)
        for item in fields(section.type):
            if section.name == "limits" and item.name != "enabled":
                continue  # Read by name; tests/test_limits.py counts each.
            # Where a part is given its section alone, that goes by the section's name, or by config or settings.
            places = {(owner, item.name) for owner in (section.name, "config", "settings")}
            assert places & used, f"{section.name}.{item.name} is read nowhere"


def problems_raised() -> set[str]:
    """The names given to `Problem(…)`, and those that stand in for what aiohttp raises."""
    found = set(BY_STATUS.values())
    for file in MODULES.values():
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Problem" and node.args:
                name = node.args[0]
                if isinstance(name, ast.Constant):
                    found.add(str(name.value))
    return found


def problems_documented() -> set[str]:
    """The names in the handlers' `@docs(problems=…)`."""
    return {
        str(item.value)
        for module, file in MODULES.items()
        if module.startswith("referral.handlers.")
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.keyword) and node.arg == "problems" and isinstance(node.value, ast.Tuple | ast.List)
        for item in node.value.elts
        if isinstance(item, ast.Constant)
    }


def test_the_catalogue_lists_what_is_raised_and_nothing_else() -> None:
    assert problems_raised() == CATALOGUE.keys()
    assert problems_documented() <= CATALOGUE.keys()


def test_the_catalogue_has_error_statuses_and_whole_sentences() -> None:
    for name, kind in CATALOGUE.items():
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert 400 <= kind.status < 600
        assert kind.title[0].isupper()
        assert not kind.title.endswith(".")
        assert kind.explanation.endswith(".")


BODIES: list[dict[str, Any]] = [
    {},
    {"data": b"{", "headers": {"Content-Type": "application/json"}},
    {"data": b"\xff", "headers": {"Content-Type": "application/json"}},
    {"json": []},
    {"json": {"unknown": 1}},
    {"data": b"x", "headers": {"Content-Type": "text/plain"}},
    {"data": b"x" * 70_000, "headers": {"Content-Type": "application/json"}},
    {"params": {"limit": "x", "cursor": "x", "email": "x", "unknown": "x"}},
]


async def test_every_error_of_every_route_has_the_one_shape(client: Client) -> None:
    assert client.app
    alice, nobody = await Person.register(client, "alice"), Person(client, "")
    taken = {resource.canonical: {route.method for route in resource} for resource in client.app.router.resources()}
    assert len(taken) > 25
    seen: Counter[int] = Counter()
    for path in [*sorted(taken), "/", "/nowhere", "/api/v1/nowhere", "/%00", "/api/v1/codes/%FF", "/api/v1/users/%2e%2e"]:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
            # What a body says is read where the method is taken.
            for body in BODIES if path not in taken or method in taken[path] else BODIES[-1:]:
                for somebody in (nobody, alice):
                    # `call` adds /api/v1 to what it does not know.
                    url = client.make_url("/").with_path(path.replace("{", "").replace("}", ""), encoded=True)
                    headers = dict(body.get("headers", {}))
                    if somebody.tokens:
                        headers["Authorization"] = f"Bearer {somebody.tokens['access_token']}"
                    options = {**body, "headers": headers, "allow_redirects": False}
                    async with client.session.request(method, url, **options) as response:
                        seen[response.status] += 1
                        assert response.status < 500, (method, path, body)
                        assert "X-Request-ID" in response.headers
                        if response.status < 400:
                            continue
                        kind, text = response.content_type, await response.text()
                        if path in OAUTH:
                            assert (await Answer.of(response)).oauth_error == "invalid_request", (method, path, body)
                        elif is_page(path):
                            # Of the back office, whatever it is.
                            assert kind == "text/html", (method, path, body)
                            assert text.startswith("<!doctype html>")
                        elif path in PAGES and kind == "text/html":
                            assert text.startswith("<!doctype html>")
                        else:
                            assert kind == "application/problem+json", (method, path, body, text)
                            document = await response.json(content_type=None)
                            assert document.keys() >= {"type", "title", "status", "detail", "instance", "request_id"}
                            assert document["status"] == response.status
                            assert document["type"].removeprefix("/problems/") in CATALOGUE
    assert {400, 401, 404, 405, 413, 415, 422} <= seen.keys()


# Whose machine it is


def files_of_the_project() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_path_of_one_machine() -> None:
    files = files_of_the_project()
    assert len(files) > 80
    # Written so that this file does not find itself.
    pattern = re.compile(r"(?<![\w.\-/}])/(?:root|home|Users|work)/\w")
    for file in files:
        try:
            text = file.read_text()
        except UnicodeDecodeError:
            continue
        assert not pattern.search(text), file
