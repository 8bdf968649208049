"""Command line and configuration (docs/protocol.md, 8)."""

import os
import re
import socket
import subprocess

import pytest

from world import ROOT, SLOWER, TICKCAST, READY, eventually, write_config


def run(*args, env=None, timeout=10):
    return subprocess.run([str(TICKCAST), *map(str, args)], capture_output=True, text=True,
                          timeout=timeout * SLOWER, env={**os.environ, **(env or {})})


def refused(done):
    """The one line on standard error of a start that was refused with status 2."""
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


# Text of the file, line of the fault, key, and words of what is allowed.
FAULTS = {
    "unknown key": ("[node]\nid = a\ncolour = red\n", 3, "colour", []),
    "unknown section": ("[nodes]\nid = a\n", 1, "nodes", []),
    "unknown key of a namespace": ("[namespace a]\nsize = 1\n", 2, "size", []),
    "key before any section": ("id = a\n", 1, "id", []),
    "no equals sign": ("[node]\nid\n", 2, "", []),
    "section that does not end": ("[node\nid = a\n", 1, "", []),
    "number with a tail": ("[node]\nping_ms = 25s\n", 2, "ping_ms", []),
    "number that is a word": ("\n\n[node]\nworkers = many\n", 4, "workers", []),
    "empty number": ("[redis]\ncanary_ms =\n", 2, "canary_ms", []),
    "negative number": ("[node]\npace_ms = -1\n", 2, "pace_ms", ["0"]),
    "number too large": ("[node]\nping_ms = 99999999999999999999\n", 2, "ping_ms", []),
    "workers out of range": ("[node]\nworkers = 100000\n", 2, "workers", ["1"]),
    "canary of zero": ("[redis]\ncanary_ms = 0\n", 2, "canary_ms", []),
    "log level": ("[node]\nlog_level = loud\n", 2, "log_level",
                  ["debug", "info", "warn", "error"]),
    "log format": ("[node]\nlog_format = xml\n", 2, "log_format", ["text", "json"]),
    "yes or no": ("[node]\necho = maybe\n", 2, "echo", ["yes", "no"]),
    "address without a port": ("[listen]\naddress = 127.0.0.1\n", 2, "address", ["host:port"]),
    "port out of range": ("[listen]\naddress = 127.0.0.1:65536\n", 2, "address", []),
    "port that is a word": ("[ops]\naddress = 127.0.0.1:http\n", 2, "address", []),
    "Redis URL": ("[redis]\nurl = http://127.0.0.1\n", 2, "url", ["redis://", "unix://"]),
    "Redis port": ("[redis]\nurl = redis://127.0.0.1:99999\n", 2, "url", []),
    "auth mode": ("[auth]\nmode = on\n", 2, "mode", ["off", "optional", "required"]),
    "namespace mode": ("[namespace a]\nmode = some\n", 2, "mode", ["latest", "all"]),
    "namespace modes": ("[namespace a]\nmodes = latest none\n", 2, "modes", ["latest", "all"]),
    "namespace publish": ("[namespace a]\npublish = yes\n", 2, "publish",
                          ["no", "user", "anyone"]),
    "namespace access": ("[namespace a]\naccess = all\n", 2, "access", ["anyone", "user", "own"]),
    "namespace name": ("[namespace a:b]\nmode = all\n", 1, "a:b", []),
    "namespace without a name": ("[namespace]\nmode = all\n", 1, "namespace", []),
    "negative limit": ("[limits]\ncommands_per_s = -5\n", 2, "commands_per_s", []),
}


@pytest.mark.parametrize("text, line, key, allowed", FAULTS.values(), ids=FAULTS.keys())
@pytest.mark.parametrize("check", [True, False], ids=["-t", "start"])
def test_a_fault_in_the_file(tmp_path, text, line, key, allowed, check):
    """One line that names file, line, key and what is allowed; status 2."""
    path = tmp_path / "bad.conf"
    path.write_text(text)
    said = refused(run("-c", path, *(["-t"] if check else [])))
    assert f"{path}:{line}:" in said, said
    assert key in said, said
    for word in allowed:
        assert word in said, said


OPTION_FAULTS = [
    ("node.colour=red", "colour", []),
    ("colour=red", "colour", []),
    ("node.workers=many", "workers", []),
    ("node.workers", "node.workers", []),
    ("node.log_level=loud", "log_level", ["debug", "info", "warn", "error"]),
    ("namespace.trade.mode=some", "mode", ["latest", "all"]),
    ("listen.address=nowhere", "address", ["host:port"]),
]


@pytest.mark.parametrize("option, key, allowed", OPTION_FAULTS)
def test_a_fault_in_a_set_option(option, key, allowed):
    said = refused(run("-t", "--set", option))
    assert "--set" in said and key in said, said
    for word in allowed:
        assert word in said, said


@pytest.mark.parametrize("variable, value, allowed", [
    ("TICKCAST_NODE_WORKERS", "many", []),
    ("TICKCAST_NODE_COLOUR", "red", []),
    ("TICKCAST_NODE_LOG_LEVEL", "loud", ["debug", "info", "warn", "error"]),
    ("TICKCAST_NAMESPACE_TRADE_MODE", "some", ["latest", "all"]),
])
def test_a_fault_in_the_environment(variable, value, allowed):
    said = refused(run("-t", env={variable: value}))
    assert variable in said, said
    for word in allowed:
        assert word in said, said


@pytest.mark.parametrize("args", [["-x"], ["--nonsense"], ["-c"], ["--set"], ["surplus"],
                                  ["-c", "/nonexistent/tickcast.conf"]])
def test_a_fault_on_the_command_line(args):
    done = run(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.strip()
    if "/nonexistent" in args[-1]:
        assert "/nonexistent/tickcast.conf" in refused(done)


def test_version():
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"tickcast \d+\.\d+\.\d+\S*\n", done.stdout), done.stdout


@pytest.mark.parametrize("argument", ["--version", "--help", "--print-config"])
def test_what_cannot_be_printed_is_a_failure(argument):
    """A reference configuration that a full disk cut off is no success."""
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([str(TICKCAST), argument], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=10 * SLOWER)
    assert (done.returncode, done.stderr) == (1, "tickcast: cannot write to standard output\n")


def test_the_built_in_defaults_are_valid():
    assert run("-t").returncode == 0


# Every name that the contract promises, with a value that it takes.
NAMES = {
    "node": {"id": "n7", "advertise": "10.0.0.7:8080", "workers": "2", "log_level": "warn",
             "log_format": "json", "echo": "yes", "ping_ms": "0", "heartbeat_ms": "20000",
             "pace_ms": "0"},
    "listen": {"address": "127.0.0.1:0", "max_connections": "1000", "origins": "https://a.example",
               "handshake_ms": "5000", "deflate_min_bytes": "100", "tls_cert": "", "tls_key": "",
               "trusted_proxies": "127.0.0.1", "drain_s": "10", "drain_grace_s": "1"},
    "ops": {"address": "127.0.0.1:0", "keys": ""},
    "redis": {"url": "redis://u:p@localhost:6379/2", "prefix": "x:", "linger_ms": "1000",
              "canary_ms": "500", "tls_ca": ""},
    "limits": {"message_bytes": "1000", "payload_bytes": "1000", "commands_per_s": "5",
               "channels_per_client": "10", "soft_bytes": "1000", "hard_bytes": "100000",
               "head_bytes": "4096", "connections_per_address": "5", "connections_per_user": "5",
               "accepts_per_s": "100"},
    "auth": {"mode": "off", "keys": "", "issuer": "me", "audience": "you", "leeway_s": "5",
             "timeout_ms": "1000"},
    "admin": {"secret": ""},
    "namespace news": {"mode": "all", "modes": "latest all", "snapshot": "yes", "history": "10",
                       "history_ttl_s": "60", "mirror": "no", "batch_ms": "0", "max_rate": "0",
                       "publish": "no", "access": "anyone", "delay_s": "0"},
}


def test_every_name_is_accepted_from_the_start(tmp_path):
    path = tmp_path / "all.conf"
    write_config(path, {f"{s.replace(' ', '.')}.{k}": v
                        for s, keys in NAMES.items() for k, v in keys.items()})
    done = run("-t", "-c", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("section", NAMES)
def test_every_name_is_accepted_from_set_and_environment(section):
    dotted = section.replace(" ", ".")
    for key, value in NAMES[section].items():
        done = run("-t", "--set", f"{dotted}.{key}={value}")
        assert done.returncode == 0, done.stderr
        variable = f"TICKCAST_{dotted}_{key}".upper().replace(".", "_")
        done = run("-t", env={variable: value})
        assert done.returncode == 0, done.stderr


def test_the_shipped_file_has_every_option_commented_at_its_default(tmp_path):
    text = (ROOT / "conf" / "tickcast.conf").read_text()
    assert run("-t", "-c", ROOT / "conf" / "tickcast.conf").returncode == 0
    live = re.sub(r"(?m)^[#;] ?(?=[a-z_]+ *=|\[)", "", text)
    for section, keys in NAMES.items():
        if not section.startswith("namespace"):
            assert f"[{section}]" in live
        for key in keys:
            assert re.search(rf"(?m)^{key} *=", live), f"{section}.{key} is not in the file"
    path = tmp_path / "live.conf"
    path.write_text(live)
    done = run("-t", "-c", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("text", [
    "; a comment\n# another\n\n[node]\n  id   =   spaced out \n",
    "\r\n[node]\r\nid = a\r\n",
    "[namespace a-b_c.1]\nmode = latest\n",
    "[node]\nid = a",
])
def test_forms_of_the_file(tmp_path, text):
    path = tmp_path / "ok.conf"
    path.write_bytes(text.encode())
    done = run("-t", "-c", path)
    if "spaced out" in text:
        # A node's id goes into keys and log lines; with a blank inside it may be refused.
        assert done.returncode in (0, 2)
        return
    assert done.returncode == 0, done.stderr


# --- a running node -----------------------------------------------------------------------------

@pytest.mark.parametrize("file, env, sets, name", [
    ("from-file", {}, [], "from-file"),
    ("from-file", {"TICKCAST_NODE_ID": "from-env"}, [], "from-env"),
    ("from-file", {"TICKCAST_NODE_ID": "from-env"}, ["node.id=from-set"], "from-set"),
    ("from-file", {}, ["node.id=first", "node.id=last"], "last"),
])
def test_set_beats_environment_beats_file(world, redis, file, env, sets, name):
    node = world.node(redis, name=file, env=env, sets=sets)
    assert node.id == name


def test_a_file_with_namespaces_replaces_the_shipped_ones(world, redis, connect):
    node = world.node(redis, settings={"namespace.news.mode": "all"},
                      sets=["namespace.extra.mode=latest"],
                      env={"TICKCAST_NAMESPACE_ENVY_MODE": "all"})
    client = connect(node)
    ack = client.subscribe("news:a", "extra:a", "envy:a", "quote:A", "trade:A")
    assert ack["accepted"] == 3
    assert [r["channel"] for r in ack["rejected"]] == ["quote:A", "trade:A"]


def test_set_adds_to_the_shipped_namespaces(world, redis, connect):
    node = world.node(redis, sets=["namespace.extra.mode=latest"])
    ack = connect(node).subscribe("extra:a", "quote:A", "trade:A", "chat:a", "alert:a")
    assert ack["accepted"] == 5


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_the_ready_line_does_not_depend_on_the_log_level(world, level):
    """Nor on Redis. Port 0 picks free ports; nothing else goes to standard output."""
    redis = world.redis(start=False)
    node = world.node(redis, ready=False, sets=[f"node.log_level={level}"])
    assert node.listen.startswith("127.0.0.1:") and node.port > 0
    assert node.ops.startswith("127.0.0.1:") and node.ops != node.listen
    assert node.id == "n1"
    assert node.get("/healthz").status == 200


def test_a_node_without_an_id_makes_one(world, redis):
    first = world.node(redis, settings={"node.id": ""})
    second = world.node(redis, settings={"node.id": ""})
    assert first.id and second.id and first.id != second.id


@pytest.mark.parametrize("option, value", [
    ("listen.trusted_proxies", "127.0.0.1"),
    ("auth.issuer", "someone"),
    ("redis.tls_ca", "/etc/ssl/certs/ca-certificates.crt"),
])
def test_what_is_not_built_yet_says_so(world, redis, option, value):
    node = world.node(redis, sets=[f"{option}={value}"])
    lines = [line for line in node.log().splitlines() if option in line]
    assert lines and "warn" in lines[0], node.log()


def test_what_is_left_at_its_default_gives_no_warning(world, redis):
    assert "level=warn" not in world.node(redis).log()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_ops_on_anything_but_loopback_is_refused(address):
    """5: without API keys the ops listener binds to loopback only."""
    done = run("--set", f"ops.address={address}", "--set", "listen.address=127.0.0.1:0",
               "--set", "redis.url=redis://127.0.0.1:1")
    assert done.returncode != 0
    assert done.stdout == ""
    assert "ops" in done.stderr and "address" in done.stderr, done.stderr


@pytest.mark.parametrize("section", ["listen", "ops"])
def test_a_port_that_is_taken(section):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        other = "ops" if section == "listen" else "listen"
        done = run("--set", f"{section}.address={address}", "--set", f"{other}.address=127.0.0.1:0",
                   "--set", "redis.url=redis://127.0.0.1:1")
    assert done.returncode not in (0, -6, -11)
    assert done.stdout == ""
    assert f"{section}.address: cannot listen on {address}" in done.stderr, done.stderr


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_lines_have_one_shape(world, redis, log_format):
    import json
    node = world.node(redis, sets=[f"node.log_format={log_format}", "node.log_level=debug"])
    eventually(lambda: "feed_ok" in node.log())
    for line in node.log().splitlines():
        if log_format == "json":
            members = json.loads(line)
            assert {"time", "level", "event"} <= members.keys()
        else:
            assert re.match(r"time=\S+ level=(debug|info|warn|error) (node=\S+ )?event=\S+", line)


def test_sigint_and_a_second_sigterm_end_the_node(world, redis, connect):
    import signal
    node = world.node(redis, sets=["listen.drain_s=30"])
    connect(node)
    node.terminate()
    node.terminate()
    assert node.wait() in (0, 1, -signal.SIGTERM)
    node.process = None


def test_ready_line_is_exact(world, redis):
    """Read by scripts: `ready listen=ADDRESS ops=ADDRESS node=ID`."""
    assert READY.pattern.startswith("ready listen=")
    world.node(redis)
