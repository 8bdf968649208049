"""The soak, briefly: its judge is tested, then a short run is judged. `make soak` goes on."""

import os
import subprocess
import sys

import pytest

from world import ROOT, SLOWER

SOAK = ROOT / "tests" / "soak"


def run(*command, timeout):
    """Runs it to its end; what it printed, when it fails."""
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True,
                          timeout=timeout, env=os.environ, check=False)
    print(done.stdout[:20000])
    assert done.returncode == 0, done.stdout[:20000] + done.stderr[-5000:]
    return done.stdout


def test_the_judge_flags_what_is_wrong_and_nothing_else():
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", SOAK / "test_judge.py", timeout=30 * SLOWER)


@pytest.mark.limit(120)
@pytest.mark.parametrize("options", [
    # Under a sanitizer noise says more.
    pytest.param(["--calm", "--seconds", 6], marks=pytest.mark.plain, id="calm"),
    pytest.param(["--seconds", 18, "--mean", 1.5], id="noise"),
])
def test_every_history_is_right(options):
    clients = 80 if SLOWER == 1 else 30
    out = run(SOAK / "run.py", "--clients", clients, "--rate", 60 / SLOWER, *options,
              timeout=110 * SLOWER)
    assert out.startswith("seed ")
    assert "all hold the newest value" in out
    items = int(out.rsplit("items: ", 1)[1].split(",", 1)[0])
    assert items > 500, out
