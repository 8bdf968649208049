"""A rolling restart under load, briefly: every client's history is judged. `make rolling` has more
clients and more time."""

import os
import subprocess
import sys

import pytest

from world import ROOT

RUN = ROOT / "tests" / "fleet" / "run.py"


@pytest.mark.limit(150)
@pytest.mark.plain  # hundreds of clients: too slow otherwise
@pytest.mark.parametrize("disturb", ["none", "kill"])
def test_nobody_notices(disturb):
    done = subprocess.run(
        [sys.executable, str(RUN), "--clients", "200", "--accepts", "100", "--drain-seconds", "3",
         "--disturb", disturb],
        capture_output=True, text=True, timeout=140, env=os.environ, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-4000:]
    assert "\n0 faults" in done.stdout
