"""Relative paths in settings: each starts from the folder that its setting comes from, wherever the service is started."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote_plus

# Makes the relative paths in a setting absolute; what is no path, or not well-formed, stays as it is.
Place = Callable[[str, Path], str]

# Parameters of a URL of PostgreSQL that name files.
POSTGRES_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")


def file(value: str, folder: Path) -> str:
    """The path of a file, or nothing."""
    return str(folder / value) if value else value


def database_url(value: str, folder: Path) -> str:
    """`sqlite:///FILE`, or a URL of PostgreSQL with files of certificates."""
    path = re.fullmatch("sqlite:///((?!:memory:).+)", value, re.DOTALL)
    return f"sqlite:///{folder / path[1]}" if path else _files_in_query(value, folder, *POSTGRES_FILES)


def mail_url(value: str, folder: Path) -> str:
    """`file:FOLDER`, or a mail server with a file of authorities."""
    path = re.fullmatch("file:(?://)?(.+)", value, re.DOTALL)
    return f"file:{folder / path[1]}" if path else _files_in_query(value, folder, "ca")


def cache_url(value: str, folder: Path) -> str:
    """A Redis with files of certificates."""
    return _files_in_query(value, folder, "ca", "cert", "key")


def _files_in_query(value: str, folder: Path, *options: str) -> str:
    address, mark, query = value.partition("?")
    # sslrootcert=system is no file, but the authorities that the system trusts.
    option = re.compile(rf"((?:^|&)(?:{'|'.join(options)})=)(?!system(?:&|$))([^&]+)")
    return address + mark + option.sub(lambda found: found[1] + quote(str(folder / unquote_plus(found[2]))), query)
