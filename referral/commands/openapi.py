"""The OpenAPI document, printed."""

import argparse

import orjson

from referral.app import create_app
from referral.config import Config
from referral.contract.openapi import build_openapi


def print_openapi(config: Config, arguments: argparse.Namespace) -> None:
    """Print the OpenAPI document."""
    print(orjson.dumps(build_openapi(create_app(config), config), option=orjson.OPT_INDENT_2).decode())
