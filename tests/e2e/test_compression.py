"""permessage-deflate (RFC 7692): negotiation, and the Autobahn groups 12 and 13 over /echo."""

import itertools
import json
import random
import zlib

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from client import Client
from wire import BINARY, CONT, PING, PONG, TEXT, frame

AGREED = {"server_no_context_takeover": None, "client_no_context_takeover": None}
TAIL = b"\x00\x00\xff\xff"


@pytest.fixture(scope="module")
def node(module_world):
    return module_world.node(module_world.redis(), settings={
        "node.echo": "yes",
        "limits.message_bytes": 1 << 20,
        "limits.soft_bytes": 8 << 20,
        "limits.hard_bytes": 8 << 20,
    })


def deflate(data, bits=15, level=9, strategy=zlib.Z_DEFAULT_STRATEGY):
    packer = zlib.compressobj(level, zlib.DEFLATED, -bits, 8, strategy)
    out = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert out.endswith(TAIL)
    return out[:-4]


def inflate(data, bits=15):
    return zlib.decompressobj(-bits).decompress(data + TAIL)


def parse_extension(value):
    """"a; b=1" -> ("a", {"b": "1"}), refusing a parameter that is there twice."""
    name, *parameters = [part.strip() for part in value.split(";")]
    found = {}
    for parameter in parameters:
        key, _, text = parameter.partition("=")
        assert key not in found, value
        found[key] = text or None
    return name, found


@pytest.fixture
def packed(node, wire):
    """/echo with compression agreed, frame by frame."""
    echo = wire(node).upgrade("/echo", Sec_WebSocket_Extensions="permessage-deflate")
    assert "sec-websocket-extensions" in echo.headers
    return echo


# --- negotiation ------------------------------------------------------------------------------

def offers():
    """Every combination of the four parameters that is legal."""
    server_bits = [None, *range(9, 16)]
    client_bits = [None, "", 8, 9, 12, 15]
    for no_server, no_client, server, client in itertools.product(
            [False, True], [False, True], server_bits, client_bits):
        parts = ["permessage-deflate"]
        parts += ["server_no_context_takeover"] * no_server
        parts += ["client_no_context_takeover"] * no_client
        if server is not None:
            parts.append(f"server_max_window_bits={server}")
        if client is not None:
            parts.append("client_max_window_bits" + (f"={client}" if client else ""))
        yield "; ".join(parts), server


def test_every_legal_offer_is_accepted(node, wire):
    for offer, server_bits in offers():
        with wire(node).upgrade("/echo", Sec_WebSocket_Extensions=offer) as echo:
            value = echo.headers.get("sec-websocket-extensions")
            assert value, offer
            name, parameters = parse_extension(value)
            assert name == "permessage-deflate"
            expected = dict(AGREED)
            if server_bits is not None:
                expected["server_max_window_bits"] = str(server_bits)
            client_bits = parameters.pop("client_max_window_bits", None)
            assert client_bits is None or "client_max_window_bits" in offer
            assert parameters == expected, offer


@pytest.mark.parametrize("offer", [
    "permessage-deflate; server_max_window_bits=7",
    "permessage-deflate; server_max_window_bits=16",
    "permessage-deflate; server_max_window_bits=010",
    "permessage-deflate; server_max_window_bits=+9",
    "permessage-deflate; server_max_window_bits=x",
    "permessage-deflate; server_max_window_bits",
    "permessage-deflate; server_max_window_bits=99999999999999999999",
    "permessage-deflate; client_max_window_bits=7",
    "permessage-deflate; client_max_window_bits=16",
    "permessage-deflate; client_max_window_bits=08",
    "permessage-deflate; server_no_context_takeover=1",
    "permessage-deflate; client_no_context_takeover=true",
    "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
    "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
    "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
    "permessage-deflate; unknown_parameter",
    "permessage-deflate; unknown=5",
    "permessage-deflate; server_max_window_bits=8",  # raw deflate of zlib cannot
    "permessage-bzip2",
    "x-webkit-deflate-frame",
])
def test_an_offer_that_cannot_be_honoured_is_declined(node, wire, offer):
    """RFC 7692, 5 and 7.1: the upgrade goes on without compression."""
    with wire(node).upgrade("/echo", Sec_WebSocket_Extensions=offer) as echo:
        assert "sec-websocket-extensions" not in echo.headers
        echo.send_frame(TEXT, b"x" * 1000)
        echo.expect(TEXT, b"x" * 1000)
        echo.send_frame(TEXT, deflate(b"x" * 1000), rsv=4)
        echo.expect_close(1002)


@pytest.mark.parametrize("offer, server_bits", [
    ("permessage-deflate; server_max_window_bits=8, permessage-deflate", None),
    ("permessage-deflate; nonsense, permessage-deflate; server_max_window_bits=12", "12"),
    ("permessage-bzip2, permessage-deflate; client_max_window_bits", None),
    ("permessage-deflate; server_max_window_bits=10, permessage-deflate", "10"),
    ("foo; bar=\"quoted\", permessage-deflate", None),
    ("permessage-deflate; server_max_window_bits=\"11\"", "11"),
    ("  permessage-deflate  ;  server_max_window_bits=13  ", "13"),
])
def test_the_first_offer_that_can_be_honoured_wins(node, wire, offer, server_bits):
    with wire(node).upgrade("/echo", Sec_WebSocket_Extensions=offer) as echo:
        name, parameters = parse_extension(echo.headers["sec-websocket-extensions"])
        assert name == "permessage-deflate"
        assert parameters.get("server_max_window_bits") == server_bits


def test_offers_on_several_lines_are_one_list(node, wire):
    echo = wire(node)
    request = echo.request("/echo", Sec_WebSocket_Extensions="permessage-bzip2")
    request = request.replace(b"Sec-WebSocket-Extensions: permessage-bzip2\r\n",
                              b"Sec-WebSocket-Extensions: permessage-bzip2\r\n"
                              b"Sec-WebSocket-Extensions: permessage-deflate\r\n")
    echo.send(request)
    assert echo.read_head() == 101
    assert echo.headers["sec-websocket-extensions"].startswith("permessage-deflate")


# --- 12, 13: messages, judged by the library ----------------------------------------------------

def parameter_sets():
    yield dict()
    yield dict(client_max_window_bits=True)
    yield dict(client_max_window_bits=9)
    yield dict(client_max_window_bits=15)
    yield dict(server_max_window_bits=9, client_max_window_bits=9)
    yield dict(server_max_window_bits=15, client_max_window_bits=15)
    yield dict(server_no_context_takeover=True, client_no_context_takeover=True)
    yield dict(server_no_context_takeover=True, server_max_window_bits=9)


@pytest.mark.parametrize("parameters", list(parameter_sets()), ids=str)
def test_echo_of_every_size_compressed(node, parameters):
    """12.1 to 12.5, 13.1 to 13.7"""
    randomness = random.Random(7)
    words = [randomness.randbytes(4).hex() for _ in range(50)]
    client = Client(node.url("/echo"),
                    extensions=[ClientPerMessageDeflateFactory(**parameters)])
    try:
        assert client.ws.extensions, "compression was not agreed"
        for size in [0, 1, 16, 64, 199, 200, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072]:
            text = " ".join(randomness.choices(words, k=size // 9 + 1))[:size]
            client.send_text(text)
            assert client.recv_text() == text
            noise = randomness.randbytes(size)
            client.send_text(noise)
            assert client.recv_text() == noise
        for i in range(200):
            text = json.dumps({"symbol": words[i % 50], "price": i / 100, "volume": i * 100} )
            client.send_text(text)
            assert client.recv_text() == text
    finally:
        client.close()


@pytest.mark.parametrize("bits", range(9, 16))
def test_the_agreed_window_is_honoured(node, wire, bits):
    """What the node compresses can be inflated with a window of the agreed size."""
    echo = wire(node).upgrade(
        "/echo", Sec_WebSocket_Extensions=f"permessage-deflate; server_max_window_bits={bits}")
    randomness = random.Random(bits)
    block = randomness.randbytes(300).hex()
    for size in (300, 600, 2000, 40000):
        text = (block * (size // 600 + 1))[:size].encode()
        echo.send_frame(TEXT, text)
        got = echo.recv_frame()
        assert got.fin and got.opcode == TEXT
        assert (inflate(got.payload, bits) if got.rsv == 4 else got.payload) == text


# --- frames ------------------------------------------------------------------------------------

@pytest.mark.parametrize("wire_bytes", [
    bytes.fromhex("f248cdc9c90700"),  # RFC 7692, 7.2.3.1
    bytes.fromhex("000500faff48656c6c6f00"),  # 7.2.3.3: a stored block
    bytes.fromhex("f348cdc9c9070000"),  # 7.2.3.4: BFINAL set
    bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")),  # 7.2.3.5: two blocks
], ids=["plain", "stored", "final", "two-blocks"])
def test_examples_of_the_rfc(packed, wire_bytes):
    packed.send_frame(TEXT, wire_bytes, rsv=4)
    packed.expect(TEXT, b"Hello")
    half = len(wire_bytes) // 2
    packed.send(frame(TEXT, wire_bytes[:half], fin=False, rsv=4) + frame(CONT, wire_bytes[half:]))
    packed.expect(TEXT, b"Hello")


def test_an_empty_compressed_message(packed):
    packed.send_frame(TEXT, b"\x00", rsv=4)
    packed.expect(TEXT, b"")


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE,
                                      zlib.Z_FIXED])
def test_any_way_to_deflate(packed, level, strategy):
    text = b"the quick brown fox " * 9
    packed.send_frame(TEXT, deflate(text, 15, level, strategy), rsv=4)
    packed.expect(TEXT, text)


def test_a_compressed_message_in_fragments_with_pings_between(packed):
    text = b"fragmented and compressed "
    data = deflate(text)
    for i in range(len(data)):
        packed.send_frame(CONT if i else TEXT, data[i:i + 1], fin=i == len(data) - 1,
                          rsv=0 if i else 4)
        packed.send_frame(PING, b"%d" % i)
    seen = [packed.recv_frame() for _ in range(len(data) + 1)]
    assert [f.payload for f in seen if f.opcode == PONG] == [b"%d" % i for i in range(len(data))]
    assert [f.payload for f in seen if f.opcode == TEXT] == [text]


def test_compressed_and_plain_messages_may_alternate(packed):
    for i in range(20):
        text = b"alternating %d" % i
        if i % 2:
            packed.send_frame(TEXT, text)
        else:
            packed.send_frame(TEXT, deflate(text), rsv=4)
        packed.expect(TEXT, text)


@pytest.mark.parametrize("size, compressed", [(199, False), (200, True), (5000, True)])
def test_messages_from_deflate_min_bytes_on_are_compressed(packed, size, compressed):
    text = b"a" * size
    packed.send_frame(TEXT, text)
    got = packed.recv_frame()
    assert got.rsv == (4 if compressed else 0)
    assert (inflate(got.payload) if compressed else got.payload) == text
    if compressed:
        assert len(got.payload) < size / 4


def test_no_message_leans_on_the_one_before(packed):
    """server_no_context_takeover: the same text gives the same bytes again."""
    text = b"no context is taken over " * 20
    seen = set()
    for _ in range(3):
        packed.send_frame(TEXT, text)
        got = packed.recv_frame()
        assert got.rsv == 4 and inflate(got.payload) == text
        seen.add(got.payload)
    assert len(seen) == 1


@pytest.mark.parametrize("data, codes", [
    (frame(TEXT, b"\xff\xff\xff\xff", rsv=4), (1007, 1002)),
    (frame(TEXT, deflate(b"cut off " * 50)[:9], rsv=4), (1007, 1002)),
    (frame(TEXT, bytes.fromhex("f200110000"), rsv=4), (1007, 1002)),  # of a former message
    (frame(TEXT, deflate(b"\xff\xfe not utf-8"), rsv=4), (1007,)),
    (frame(TEXT, deflate(b"a"), rsv=2), (1002,)),
    (frame(TEXT, deflate(b"a"), rsv=6), (1002,)),
    (frame(PING, b"ping", rsv=4), (1002,)),
    (frame(TEXT, deflate(b"ab")[:2], fin=False, rsv=4) + frame(CONT, b"\0", rsv=4), (1002,)),
    (frame(BINARY, deflate(b"\0" * ((1 << 20) + 1)), rsv=4), (1009,)),
    (frame(BINARY, deflate(b"\0" * (200 << 20)), rsv=4), (1009,)),
], ids=["garbage", "cut", "context", "utf8", "rsv2", "rsv12", "ping", "continuation",
        "one-over", "bomb"])
def test_bad_compressed_data(node, packed, data, codes):
    """The inflated size is bounded, and nobody else notices."""
    packed.send(data)
    packed.expect_close(*codes)
    assert node.get("/healthz").status == 200


def test_an_inflated_message_at_the_limit(packed):
    payload = b"\0" * (1 << 20)
    packed.send_frame(BINARY, deflate(payload), rsv=4)
    got = packed.recv_frame()
    assert got.rsv == 4 and inflate(got.payload) == payload


# --- publications --------------------------------------------------------------------------------

def test_quotes_reach_compressing_clients_intact(module_world, node, connect):
    """One subscriber with compression and one without get the same bytes."""
    redis = module_world.redises[0]
    options = {"compression": "deflate"}
    clients = [connect(node, channels="quote:ZIP", options=options),
               connect(node, channels="quote:ZIP"),
               connect(node, raw=True, channels="quote:ZIP", options=options)]
    for client in clients[:2]:
        client.expect("ack")
    payload = json.dumps({"levels": [[f"{i}.50", 100] for i in range(300)]})
    redis.publish("quote:ZIP", payload)
    for client in clients[:2]:
        assert client.item()["data"] == json.loads(payload)
    assert clients[2].recv_text() == payload
    assert node.metric("tickcast_delivered_bytes_total") < \
        node.metric("tickcast_delivered_uncompressed_bytes_total")


def test_long_replies_are_compressed_too(node, wire):
    """Messages from deflate_min_bytes on, whatever they are; shorter ones stay as they are."""
    client = wire(node).upgrade("/ws", Sec_WebSocket_Extensions="permessage-deflate")
    client.recv_frame()  # hello
    names = [f"quote:LONG{i}" for i in range(30)]
    client.send_frame(TEXT, json.dumps({"action": "subscribe", "channels": names}).encode())
    assert b"ack" in client.recv_frame().payload
    client.send_frame(TEXT, json.dumps({"action": "list", "id": 1}).encode())
    client.send_frame(TEXT, json.dumps({"action": "ping", "id": 2}).encode())
    seen = {}
    while len(seen) < 2:
        got = client.recv_frame()
        text = inflate(got.payload) if got.rsv == 4 else got.payload
        message = json.loads(text)
        if "id" in message:
            seen[message["id"]] = got.rsv
    assert seen == {1: 4, 2: 0}
