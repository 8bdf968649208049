"""Conformance over /echo: the case groups of the Autobahn suite, frame by frame.

1 framing, 2 pings and pongs, 3 reserved bits, 4 opcodes, 5 fragmentation, 6 UTF-8, 7 closing,
9 limits, 10 auto-fragmentation; 12 and 13, compression, are in test_compression.py.
"""

import random
import struct

import pytest

from wire import (BINARY, CLOSE, CONT, PING, PONG, TEXT, close_frame, frame, header)

MIB = 1 << 20


@pytest.fixture(scope="module")
def echo_node(module_world):
    return module_world.node(module_world.redis(), settings={
        "node.echo": "yes",
        "limits.message_bytes": 16 * MIB,
        "limits.soft_bytes": 64 * MIB,
        "limits.hard_bytes": 64 * MIB,
    })


@pytest.fixture
def echo(echo_node, wire):
    return wire(echo_node).upgrade("/echo")


def assert_alive(echo):
    echo.send_frame(TEXT, "still here")
    echo.expect(TEXT, "still here")


# --- 1: framing -------------------------------------------------------------------------------

SIZES = [0, 1, 7, 124, 125, 126, 127, 128, 129, 255, 256, 65534, 65535, 65536, 65537, 131072]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", SIZES)
def test_every_length_form_comes_back(echo, opcode, size):
    """1.1, 1.2: a message of 65,536 bytes is a message like any other."""
    payload = b"*" * size if opcode == TEXT else bytes(i & 255 for i in range(size))
    echo.send_frame(opcode, payload)
    echo.expect(opcode, payload)


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 997])
@pytest.mark.parametrize("size", [0, 125, 126, 128, 65536])
def test_frames_in_pieces(echo, size, chunk):
    """1.1.8, 1.2.8: the message does not depend on how TCP cuts it."""
    if chunk < 5 and size > 1000:
        size = 1500
    payload = b"x" * size
    data = frame(TEXT, payload) + frame(BINARY, payload)
    echo.send(data, chunk)
    echo.expect(TEXT, payload)
    echo.expect(BINARY, payload)


def test_many_frames_in_one_segment(echo):
    echo.send(b"".join(frame(TEXT, f"message {i}") for i in range(500)))
    for i in range(500):
        echo.expect(TEXT, f"message {i}")


def test_frame_in_the_segment_of_the_request(echo_node, wire):
    """A client may speak before it has seen the 101."""
    echo = wire(echo_node).upgrade("/echo", then=frame(TEXT, "early"))
    echo.expect(TEXT, "early")


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\x02\x03\x04"])
def test_any_mask(echo, key):
    echo.send_frame(TEXT, "mask me if you can", key=key)
    echo.expect(TEXT, "mask me if you can")


def test_an_unmasked_frame_is_refused(echo):
    echo.send_frame(TEXT, "naked", masked=False)
    echo.expect_close(1002)


@pytest.mark.parametrize("size, form", [(5, 16), (125, 16), (5, 64), (126, 64), (65535, 64)])
def test_a_length_must_have_its_shortest_form(echo, size, form):
    """RFC 6455, 5.2: the minimal number of bytes MUST be used."""
    echo.send_frame(BINARY, b"x" * size, form=form)
    echo.expect_close(1002)


def test_a_length_with_its_top_bit_set(echo):
    echo.send(struct.pack("!BBQ", 0x82, 0xFF, 1 << 63) + b"abcd")
    echo.expect_close(1002, 1009)


# --- 2: pings and pongs -----------------------------------------------------------------------

@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("payload", [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff",
                                     b"\xfe" * 125])
def test_ping_is_answered_with_its_payload(echo, payload, chunk):
    """2.1 to 2.4, 2.6"""
    echo.send(frame(PING, payload), chunk)
    echo.expect(PONG, payload)


@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("size, form", [(126, None), (126, 64), (65536, None)])
def test_a_control_frame_over_125_bytes(echo, opcode, size, form):
    """2.5"""
    echo.send_frame(opcode, b"\xfe" * size, form=form)
    echo.expect_close(1002)


@pytest.mark.parametrize("payload", [b"", b"unsolicited"])
def test_an_unsolicited_pong_is_ignored(echo, payload):
    """2.7, 2.8, 2.9"""
    echo.send_frame(PONG, payload)
    echo.send_frame(PING, b"after")
    echo.expect(PONG, b"after")


@pytest.mark.parametrize("chunk", [None, 1])
def test_ten_pings_in_order(echo, chunk):
    """2.10, 2.11"""
    echo.send(b"".join(frame(PING, b"payload-%d" % i) for i in range(10)), chunk)
    for i in range(10):
        echo.expect(PONG, b"payload-%d" % i)


# --- 3: reserved bits -------------------------------------------------------------------------

@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_reserved_bits_without_an_extension(echo, rsv, opcode):
    """3.1 to 3.7"""
    payload = struct.pack("!H", 1000) if opcode == CLOSE else b"Hello"
    echo.send_frame(TEXT, "valid")
    echo.send_frame(opcode, payload, rsv=rsv)
    echo.send_frame(PING)
    echo.expect(TEXT, "valid")
    echo.expect_close(1002)


# --- 4: opcodes -------------------------------------------------------------------------------

@pytest.mark.parametrize("payload", [b"", b"reserved"])
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
def test_reserved_opcodes(echo, opcode, payload):
    """4.1, 4.2"""
    echo.send_frame(TEXT, "valid")
    echo.send_frame(opcode, payload)
    echo.send_frame(PING)
    echo.expect(TEXT, "valid")
    echo.expect_close(1002)


# --- 5: fragmentation -------------------------------------------------------------------------

@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_control_frame_must_not_be_fragmented(echo, opcode):
    """5.1, 5.2"""
    echo.send_frame(opcode, b"\x03\xe8" if opcode == CLOSE else b"frag", fin=False)
    echo.expect_close(1002)


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("parts", [
    [b"fragment1", b"fragment2"],
    [b"", b""],
    [b"", b"middle", b""],
    [b"a"] * 50,
    [b"x" * 200, b"y" * 70000, b"z"],
])
def test_fragments_become_one_message(echo, opcode, parts, chunk):
    """5.3 to 5.5"""
    if chunk and sum(map(len, parts)) > 1000:
        chunk = 1009
    data = b""
    for i, part in enumerate(parts):
        data += frame(CONT if i else opcode, part, fin=i == len(parts) - 1)
    echo.send(data, chunk)
    echo.expect(opcode, b"".join(parts))


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_ping_between_fragments(echo, chunk):
    """5.6 to 5.8: answered before the message, which arrives whole."""
    echo.send(frame(TEXT, b"frag", fin=False) + frame(PING, b"now"), chunk)
    echo.expect(PONG, b"now")
    echo.send(frame(PONG, b"ignored") + frame(CONT, b"ment"), chunk)
    echo.expect(TEXT, b"fragment")


def test_pings_between_many_fragments(echo):
    """5.19, 5.20"""
    for i in range(5):
        echo.send(frame(CONT if i else TEXT, b"part%d " % i, fin=False) + frame(PING, b"%d" % i))
        echo.expect(PONG, b"%d" % i)
    echo.send_frame(CONT, b"end")
    echo.expect(TEXT, b"part0 part1 part2 part3 part4 end")
    assert_alive(echo)


@pytest.mark.parametrize("chunk", [None, 1])
@pytest.mark.parametrize("fin", [True, False])
def test_a_continuation_of_nothing(echo, fin, chunk):
    """5.9 to 5.14"""
    echo.send(frame(CONT, b"non-continuation", fin=fin) + frame(TEXT, b"Hello"), chunk)
    echo.expect_close(1002)


def test_a_continuation_after_a_whole_message(echo):
    """5.15"""
    echo.send(frame(TEXT, b"a", fin=False) + frame(CONT, b"b"))
    echo.expect(TEXT, b"ab")
    echo.send_frame(CONT, b"c", fin=False)
    echo.expect_close(1002)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_new_message_inside_a_fragmented_one(echo, opcode):
    """5.18"""
    echo.send_frame(TEXT, b"fragment1", fin=False)
    echo.send_frame(opcode, b"fragment2")
    echo.expect_close(1002)


# --- 6: UTF-8 ---------------------------------------------------------------------------------

VALID_TEXTS = [
    "", "Hello-\u00b5@\u00df\u00f6\u00e4\u00fc\u00e0\u00e1-UTF-8!!", "\u03ba\u1f79\u03c3\u03bc\u03b5",
    "\x00", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufffd", "\ufffe", "\uffff",
    "\U00010000", "\U0001fffe", "\U0010fffe", "\U0010ffff",
]
INVALID_TEXTS = [
    b"\x80", b"\xbf", b"\x80\xbf\x80", b"\xc0\x80", b"\xc1\xbf", b"\xc0\xaf", b"\xe0\x80\x80",
    b"\xe0\x9f\xbf", b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80", b"\xfe", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98",
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\xc3(", b"\xe2(\xa1",
    b"\xe2\x82(", b"\xf0(\x8c\xbc", b"\xf0\x90(\xbc", b"\xf0\x28\x8c\x28",
]


@pytest.mark.parametrize("text", VALID_TEXTS, ids=ascii)
def test_valid_utf8_whole_and_cut_at_every_byte(echo, text):
    """6.1, 6.2, 6.5 to 6.11"""
    data = text.encode()
    echo.send_frame(TEXT, data)
    echo.expect(TEXT, data)
    for at in range(len(data) + 1):
        echo.send(frame(TEXT, data[:at], fin=False) + frame(CONT, data[at:]))
        echo.expect(TEXT, data)
    echo.send(frame(TEXT, data), 1)
    echo.expect(TEXT, data)


@pytest.mark.parametrize("data", INVALID_TEXTS, ids=repr)
def test_invalid_utf8(echo_node, wire, data):
    """6.3, 6.12 to 6.23: whole, byte by byte, and in one-byte fragments."""
    whole = wire(echo_node).upgrade("/echo")
    whole.send_frame(TEXT, b"ok " + data)
    whole.expect_close(1007)
    slow = wire(echo_node).upgrade("/echo")
    for byte in frame(TEXT, data):
        slow.try_send(bytes([byte]))
    slow.expect_close(1007)
    cut = wire(echo_node).upgrade("/echo")
    for i in range(len(data)):
        cut.try_send(frame(CONT if i else TEXT, data[i:i + 1], fin=i == len(data) - 1))
    cut.expect_close(1007)


def test_invalid_utf8_fails_before_the_message_ends(echo):
    """6.4.1: the connection is failed at the fragment with the bad byte."""
    echo.send_frame(TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", fin=False)
    echo.send_frame(CONT, b"\xf4\x90\x80\x80", fin=False)
    echo.expect_close(1007)


def test_invalid_utf8_fails_before_the_frame_ends(echo):
    """6.4.3: and even inside a frame, with the rest of it outstanding."""
    bad = b"\xce\xba\xe1\xbd\xb9\xf4\x90"
    whole = frame(TEXT, bad + b"\x80" * 100, key=b"\0\0\0\0")
    echo.send(whole[:6 + len(bad)])
    echo.expect_close(1007)


def test_binary_need_not_be_utf8(echo):
    echo.send_frame(BINARY, b"\xff\xfe\xed\xa0\x80")
    echo.expect(BINARY, b"\xff\xfe\xed\xa0\x80")


def test_a_ping_does_not_disturb_a_cut_character(echo):
    echo.send(frame(TEXT, b"\xe2\x82", fin=False) + frame(PING, b"\xff") + frame(CONT, b"\xac"))
    echo.expect(PONG, b"\xff")
    echo.expect(TEXT, "\u20ac")


# --- 7: closing -------------------------------------------------------------------------------

def test_close_is_answered_and_the_socket_ends(echo):
    """7.1.1"""
    echo.send_frame(TEXT, "Hello")
    echo.expect(TEXT, "Hello")
    echo.send(close_frame(1000))
    echo.expect_close(1000)


@pytest.mark.parametrize("more", [close_frame(1000), frame(PING), frame(TEXT, "late"),
                                  frame(TEXT, b"\xff"), b"garbage!" * 100])
def test_nothing_is_done_after_close(echo, more):
    """7.1.2 to 7.1.5"""
    echo.send(close_frame(1000) + more)
    echo.expect_close(1000)


def test_close_in_the_middle_of_a_message(echo):
    """7.1.4"""
    echo.send(frame(TEXT, b"fragment1", fin=False) + close_frame(1000) + frame(CONT, b"2"))
    echo.expect_close(1000)


def test_data_before_close_is_answered_first(echo):
    """7.1.6"""
    payload = b"A" * 262144
    echo.send(frame(TEXT, payload) + frame(TEXT, "Hello") + close_frame(1000))
    echo.expect(TEXT, payload)
    echo.expect(TEXT, "Hello")
    echo.expect_close(1000)


def test_close_without_a_code(echo):
    """7.3.1"""
    echo.send(close_frame())
    echo.expect_close(None, 1000)


def test_close_with_half_a_code(echo):
    """7.3.2"""
    echo.send_frame(CLOSE, b"a")
    echo.expect_close(1002)


@pytest.mark.parametrize("reason", [b"", b"Hello World!", b"*" * 123, "\u20ac".encode() * 41])
def test_close_with_a_reason(echo, reason):
    """7.3.3 to 7.3.5"""
    echo.send(close_frame(1000, reason))
    echo.expect_close(1000)


def test_close_with_a_reason_that_is_too_long(echo):
    """7.3.6"""
    echo.send_frame(CLOSE, b"\x03\xe8" + b"*" * 124)
    echo.expect_close(1002)


@pytest.mark.parametrize("reason", [b"\xff", b"ok \xce\xba\xe1\xbd\xb9\xed\xa0\x80"])
def test_close_with_a_reason_that_is_not_utf8(echo, reason):
    """7.5.1"""
    echo.send(close_frame(1000, reason))
    echo.expect_close(1007)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000,
                                  3999, 4000, 4999])
def test_legal_close_codes(echo, code):
    """7.7"""
    echo.send(close_frame(code))
    echo.expect_close(code, 1000)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000,
                                  65535])
def test_illegal_close_codes(echo, code):
    """7.9, 7.13"""
    echo.send(close_frame(code))
    echo.expect_close(1002)


def test_the_peer_that_only_ends_the_stream(echo_node, echo):
    """No close frame, just FIN: the node gives the connection up."""
    echo.sock.shutdown(1)
    echo.read_to_end()


# --- 9, 10: limits ----------------------------------------------------------------------------

@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [MIB // 4, MIB, 4 * MIB, 16 * MIB])
def test_large_messages(echo, opcode, size):
    """9.1, 9.2"""
    payload = b"\xba" * size if opcode == BINARY else b"t" * size
    echo.send_frame(opcode, payload)
    echo.expect(opcode, payload)


@pytest.mark.parametrize("part", [64, 1024, 65536, MIB])
def test_large_messages_in_fragments(echo, part):
    """9.3, 9.4, 10.1"""
    size = 4 * MIB if part > 64 else MIB // 4
    payload = random.Random(part).randbytes(size)
    count = size // part
    echo.send(b"".join(frame(CONT if i else BINARY, payload[i * part:(i + 1) * part],
                             fin=i == count - 1) for i in range(count)))
    echo.expect(BINARY, payload)


@pytest.mark.parametrize("chunk", [64, 1024])
def test_large_messages_in_small_segments(echo, chunk):
    """9.5, 9.6"""
    payload = b"s" * (MIB // 4)
    echo.send(frame(TEXT, payload), chunk)
    echo.expect(TEXT, payload)


@pytest.mark.parametrize("size", [0, 16, 256, 4096])
def test_many_messages_one_after_the_other(echo, size):
    """9.7, 9.8"""
    payload = b"m" * size
    for _ in range(200):
        echo.send_frame(TEXT, payload)
        echo.expect(TEXT, payload)


class TestMessageLimit:
    """A message over limits.message_bytes is 1009, however it comes."""

    LIMIT = 1024

    @pytest.fixture(scope="class")
    def small(self, module_world):
        return module_world.node(settings={"node.echo": "yes",
                                           "limits.message_bytes": self.LIMIT})

    def test_at_the_limit(self, small, wire):
        echo = wire(small).upgrade("/echo")
        echo.send_frame(TEXT, b"x" * self.LIMIT)
        echo.expect(TEXT, b"x" * self.LIMIT)
        echo.send(frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 424))
        echo.expect(TEXT, b"x" * self.LIMIT)

    @pytest.mark.parametrize("data", [
        frame(TEXT, b"x" * 1025),
        frame(BINARY, b"x" * 70000),
        frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 425),
        frame(TEXT, b"x" * 600, fin=False) + frame(CONT, b"x" * 425, fin=False),
        header(TEXT, 1025) + b"mask",
        header(TEXT, 100 * MIB) + b"mask",
        header(BINARY, (1 << 63) - 1) + b"mask",
        frame(TEXT, b"x" * 600, fin=False) + header(CONT, 1 << 40) + b"mask",
    ], ids=range(8))
    def test_over_the_limit(self, small, wire, data):
        """Refused on the header alone, before any of the payload."""
        echo = wire(small).upgrade("/echo")
        echo.send(data)
        echo.expect_close(1009)
