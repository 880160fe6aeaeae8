"""Relative paths in settings: from which folder each of them starts, and that commands find the same data from anywhere."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from referral.config import ROOT, VAR, load_config
from referral.config.addresses import parse_smtp_url
from referral.config.redis_url import parse_redis_url
from tests.support.service import run_py
from tests.support.smtp_server import Certificate

# A setting, a relative path in it, and how the setting reads when that starts from the folder {}.
SETTINGS = [
    ("database.url", "sqlite:///data/my own.db", "sqlite:///{}/data/my own.db"),
    ("database.url", "sqlite:///../up.db", "sqlite:///{}/../up.db"),
    ("database.url", "sqlite:///50%20off?.db", "sqlite:///{}/50%20off?.db"),
    ("database.url", "postgres://u@h/n?port=1&passfile=pass", "postgres://u@h/n?port=1&passfile={}/pass"),
    ("database.url", "postgres://u@h/n?sslcrl=c.pem", "postgres://u@h/n?sslcrl={}/c.pem"),
    ("database.url", "postgresql://u@h/n?sslrootcert=ca.pem&port=1", "postgresql://u@h/n?sslrootcert={}/ca.pem&port=1"),
    ("mail.url", "file:mail", "file:{}/mail"),
    ("mail.url", "file://mail/out", "file:{}/mail/out"),
    ("auth.key_file", "keys/sign in.pem", "{}/keys/sign in.pem"),
]
ABSOLUTE = [
    ("database.url", "sqlite:////data/referral.db", "sqlite:////data/referral.db"),
    ("database.url", "postgresql://u@h/n", "postgresql://u@h/n"),
    ("database.url", "postgresql://u@h/n?sslrootcert=system", "postgresql://u@h/n?sslrootcert=system"),
    ("mail.url", "file:/data/mail", "file:/data/mail"),
    ("mail.url", "file:///data/mail", "file:/data/mail"),
    ("mail.url", "smtp://h?tls=none&ehlo=a.example", "smtp://h?tls=none&ehlo=a.example"),
    ("cache.url", "redis://host:6379/0", "redis://host:6379/0"),
    ("cache.url", "unix:///run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
    ("auth.key_file", "/keys/key.pem", "/keys/key.pem"),
    ("auth.key_file", "", ""),
]
EVERY_SETTING = pytest.mark.parametrize(("setting", "given", "expected"), SETTINGS + ABSOLUTE)


def value_of(setting: str, *arguments: Any) -> Any:
    section, _, key = setting.partition(".")
    return getattr(getattr(load_config(*arguments), section), key)


@EVERY_SETTING
def test_paths_of_a_file_start_from_its_folder(tmp_path: Path, setting: str, given: str, expected: str) -> None:
    folder = tmp_path / "etc"
    folder.mkdir()
    section, _, key = setting.partition(".")
    (folder / "other.toml").write_text(f'[{section}]\n{key} = "{given}"\n')
    for spelling in (folder / "other.toml", Path("etc/other.toml")):
        assert value_of(setting, spelling, {}) == expected.format(folder)


@EVERY_SETTING
def test_paths_of_the_environment_start_from_the_working_directory(
    tmp_path: Path, setting: str, given: str, expected: str
) -> None:
    variable = f"REFERRAL_{setting.replace('.', '_').upper()}"
    assert value_of(setting, None, {variable: given}) == expected.format(tmp_path)
    # So do those of a file with one setting, which is usually in a folder of secrets, where nothing is to be kept.
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "one").write_text(f"{given}\n")
    assert value_of(setting, None, {f"{variable}_FILE": "secrets/one"}) == expected.format(tmp_path)


def test_the_defaults_start_from_the_project() -> None:
    config = load_config(environ={})
    assert config.database.url == f"sqlite:///{ROOT}/var/referral.db"
    assert config.mail.url == f"file:{ROOT}/var/mail"
    assert VAR == ROOT / "var"


def test_the_authority_of_a_mail_server_is_read_from_there_too(tmp_path: Path) -> None:
    (tmp_path / "etc" / "my files").mkdir(parents=True)
    Certificate.make(tmp_path / "etc" / "my files")
    (tmp_path / "etc" / "other.toml").write_text('[mail]\nurl = "smtps://h?ca=my+files/server.pem&ehlo=a.example"\n')
    url = value_of("mail.url", tmp_path / "etc" / "other.toml", {})
    assert url == f"smtps://h?ca={tmp_path}/etc/my%20files/server.pem&ehlo=a.example"
    assert parse_smtp_url(url).ca == f"{tmp_path}/etc/my files/server.pem"


def test_certificates_of_redis_are_read_from_there_too(tmp_path: Path) -> None:
    (tmp_path / "etc" / "my files").mkdir(parents=True)
    Certificate.make(tmp_path / "etc" / "my files")
    given = "rediss+sentinel://h/name?ca=my+files/server.pem&sentinel_password=a/b&cert=my+files/server.pem&key=my+files/server.key"
    (tmp_path / "etc" / "other.toml").write_text(f'[cache]\nurl = "{given}"\n')
    url = value_of("cache.url", tmp_path / "etc" / "other.toml", {})
    folder, address = f"{tmp_path}/etc/my files", parse_redis_url(url)
    assert (address.ca, address.cert) == (f"{folder}/server.pem", f"{folder}/server.pem")
    assert (address.key, address.sentinel_password) == (f"{folder}/server.key", "a/b")


def command(project: Path, cwd: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "REFERRAL_LOG_LEVEL": "error", "REFERRAL_AUTH_BCRYPT_ROUNDS": "4", **environ}
    line = [*run_py(project), *arguments]
    return subprocess.run(line, cwd=cwd, env=environ, input="a long password\n", capture_output=True, text=True, check=True)


def test_commands_find_the_project_s_data_from_every_folder(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project, elsewhere):
        folder.mkdir()
    (tmp_path / "link").symlink_to(project / "run.py")

    assert "0001.users" in command(project, elsewhere, "migrate").stdout
    assert command(project, Path("/"), "migrate").stdout == "Nothing to apply.\n"
    command(project, tmp_path, "createsuperuser", "root@example.com")
    command(project, elsewhere, "rotate-keys")
    linked = subprocess.run(
        [run_py(project)[0], "../link", "audit"],
        cwd=elsewhere,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "admin-created" in linked.stdout
    assert {path.name for path in (project / "var").iterdir()} == {"referral.db", "secret", "secret.previous"}
    assert list(elsewhere.iterdir()) == []
    assert not (tmp_path / "var").exists()


def test_arguments_of_commands_are_the_shell_s_and_start_from_the_working_directory(tmp_path: Path) -> None:
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project, elsewhere):
        folder.mkdir()
    command(project, elsewhere, "migrate")

    assert re.match(r"\d+ rows are in backup\.db", command(project, elsewhere, "backup", "backup.db").stdout)
    command(project, elsewhere, "restore", "backup.db")

    assert {path.name for path in elsewhere.iterdir()} == {"backup.db"}
    assert "referral.db.before-restore" in {path.name for path in (project / "var").iterdir()}


def test_settings_of_another_folder_keep_their_data_there(tmp_path: Path) -> None:
    project, etc = tmp_path / "project", tmp_path / "etc"
    for folder in (project, etc):
        folder.mkdir()
    (etc / "referral.toml").write_text('[database]\nurl = "sqlite:///referral.db"\n')

    command(project, Path("/"), "--config", str(etc / "referral.toml"), "migrate")

    assert {path.name for path in etc.iterdir()} == {"referral.toml", "referral.db"}
    assert not (project / "var").exists()
