"""A flame graph of the look-ups: `python -m bench.profile [PATH]`, by-email by default, into bench/results/profile.svg."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from bench.figures import RESULTS
from bench.fill import fill
from bench.load import wrk
from bench.servers import LOAD_CORE, service


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", default="/codes/by-email?email=user7@example.com")
    parser.add_argument("--seconds", type=int, default=10)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="referral-profile-"))
    RESULTS.mkdir(exist_ok=True)
    try:
        fill(f"sqlite:///{folder / 'bench.db'}", 1_000, 4_000)
        with service(folder) as running:
            load = threading.Thread(
                target=wrk,
                args=(f"{running.url}{arguments.path}", arguments.seconds + 2, running.signed_in),
                kwargs={"core": LOAD_CORE},
            )
            load.start()
            spy = [str(Path(sys.executable).with_name("py-spy")), "record", "--rate", "500", "--pid", str(running.pid)]
            output = ["--duration", str(arguments.seconds), "--output", str(RESULTS / "profile.svg")]
            subprocess.run([*spy, *output], check=True)
            load.join()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
