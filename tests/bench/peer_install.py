"""Fetches what is compared with, each at one version, into a folder of the build.

From Debian the nginx module nchan, unpacked and not installed (nginx itself, which has to be of the
same version, is one of scripts/deps); from npm what tests/bench/peers/package-lock.json names.
"""
import os
import pathlib
import shutil
import subprocess

from machine import BUILD, Failure

SOURCES = pathlib.Path(__file__).parent / "peers"
FOLDER = pathlib.Path(BUILD).resolve() / "peers"
NCHAN_PACKAGE, NCHAN_VERSION = "libnginx-mod-nchan", "1:1.3.6+dfsg-2"
NCHAN_MODULE = FOLDER / "nchan/usr/lib/nginx/modules/ngx_nchan_module.so"


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"{' '.join(map(str, command))}: {done.stderr.strip()[-400:]}")


def need(program, package):
    if shutil.which(program) is None:
        raise Failure(f"there is no {program}; Debian's package is {package}")


def install_nchan():
    need("nginx", "nginx")
    if NCHAN_MODULE.exists():
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    run("apt-get", "-q", "download", f"{NCHAN_PACKAGE}={NCHAN_VERSION}", cwd=FOLDER)
    package = next(FOLDER.glob(f"{NCHAN_PACKAGE}_*.deb"))
    run("dpkg", "--extract", package, FOLDER / "nchan", cwd=FOLDER)


def install_npm():
    """Programs find their modules in a folder above them, so they are copied there."""
    need("node", "nodejs")
    need("npm", "npm")
    FOLDER.mkdir(parents=True, exist_ok=True)
    lock = "package-lock.json"
    is_there = (FOLDER / "node_modules").exists() and (FOLDER / lock).exists() and \
        (FOLDER / lock).read_bytes() == (SOURCES / lock).read_bytes()
    for source in [*SOURCES.glob("*.mjs"), *SOURCES.glob("*.json")]:
        shutil.copy(source, FOLDER)
    if not is_there:
        run("npm", "ci", "--no-audit", "--no-fund", cwd=FOLDER)


def versions():
    """What there is, for the head of the table."""
    found = {}
    for name in ("ws", "socket.io", "@socket.io/redis-adapter"):
        manifest = FOLDER / "node_modules" / name / "package.json"
        if manifest.exists():
            found[name] = manifest.read_text().split('"version": "', 1)[1].split('"', 1)[0]
    if os.path.exists(NCHAN_MODULE):
        found["nchan"] = NCHAN_VERSION
    for program in ("node", "nginx"):
        if shutil.which(program):
            done = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
            found[program] = (done.stdout or done.stderr).strip().split("/")[-1]
    return found
