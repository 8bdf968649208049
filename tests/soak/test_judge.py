"""The judge judged: hand-made histories, good ones that must pass and bad ones to be flagged."""

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import judge
import values
from truth import Truth

LATEST, LOG, PLAIN = "quote:0", "trade:0", "chat:0"
EPOCH = "c91e"


class Case:
    """A client, what was published, and a clock that stands still until it is moved."""

    def __init__(self, published=20, **rules):
        self.now = 100.0
        self.truths = {name: Truth(name) for name in (LATEST, LOG, PLAIN)}
        for truth in self.truths.values():
            for _ in range(published):
                self.publish(truth)
        self.ledger = judge.Ledger(self.truths, judge.Rules(**rules), clock=lambda: self.now)

    def publish(self, truth, clear=False, epoch=EPOCH):
        n = truth.send(clear)
        assert truth.answer(n, epoch, n) is None
        return n

    def subscribe(self, channel, mode=None, **options):
        mode = mode or values.NAMESPACES[values.namespace(channel)]["mode"]
        self.ledger.subscribed(channel, mode, **options)

    def reconnect(self, feed="ok"):
        self.ledger.connect(raw=False)
        self.ledger.feed(feed)

    def item(self, channel, seq, n=None, data=None, **members):
        item = {"channel": channel, "seq": seq, **members}
        if "cleared" not in members:
            item["data"] = "@"
        if data is None:
            data = values.text(channel, seq if n is None else n)
        text = json.dumps({"action": "push", "items": [item]}, separators=(",", ":"))
        self.ledger.push(text.replace('"@"', data))

    def start(self, channel, seq=3, **options):
        """Subscribed, and the first item was given."""
        self.subscribe(channel, **options)
        self.item(channel, seq, epoch=EPOCH)

    def patch(self, channel, seq, before=None, **other):
        old = values.members(channel, seq - 1 if before is None else before)
        new = values.members(channel, seq)
        patch = {k: v for k, v in new.items() if old.get(k) != v}
        patch.update({k: None for k in old if k not in new})
        patch.update(other)
        self.item(channel, seq, data=json.dumps(patch), patch=True)


def flagged(what):
    return pytest.raises(judge.Fault, match=what)


# --- histories that are right --------------------------------------------------------------------


@pytest.mark.parametrize("channel", [LATEST, LOG, PLAIN])
def test_a_plain_run_of_items_passes(channel):
    case = Case(calm=True)
    case.start(channel)
    for seq in range(4, 21):
        case.item(channel, seq)
    assert case.ledger.stale() == []


def test_conflation_with_the_right_count_passes():
    case = Case(calm=True)
    case.start(LATEST)
    case.item(LATEST, 9, missed=5)
    case.item(LATEST, 10)


def test_recovery_that_goes_on_passes():
    case = Case(calm=True)
    case.start(LOG)
    case.reconnect()
    case.subscribe(LOG, back=True, recovered=True)
    case.item(LOG, 4, epoch=EPOCH)
    case.item(LOG, 5)


def test_a_snapshot_instead_of_recovery_passes():
    case = Case()
    case.start(LATEST)
    case.reconnect()
    case.subscribe(LATEST, back=True)
    case.item(LATEST, 12, epoch=EPOCH, snap=True)
    case.item(LATEST, 13)
    case.reconnect()
    case.subscribe(LATEST, back=True)
    case.item(LATEST, 15, epoch=EPOCH, snap=True, missed=1)


@pytest.mark.parametrize("seq", [2, 5, 9])
def test_starting_anew_while_the_feed_is_suspect_passes(seq):
    case = Case()
    case.start(LOG, 5)
    case.reconnect(feed="suspect")
    case.subscribe(LOG, back=True, feed="suspect")
    case.item(LOG, seq, epoch=EPOCH)
    case.item(LOG, seq + 1)
    with flagged("missed says 0"):
        case.item(LOG, seq + 3)


def test_a_snapshot_of_where_the_client_is_passes():
    case = Case(calm=True)
    case.start(LATEST)
    case.item(LATEST, 3, epoch=EPOCH, snap=True)
    case.item(LATEST, 4)


def test_patches_that_make_the_value_pass():
    case = Case(calm=True)
    case.start(LATEST, delta=True)
    for seq in range(4, 21):
        case.patch(LATEST, seq)
    assert case.ledger.subs[LATEST].state == values.members(LATEST, 20)


def test_a_cleared_value_passes():
    case = Case(calm=True)
    case.publish(case.truths[LATEST], clear=True)
    case.publish(case.truths[LATEST])
    case.start(LATEST, 20)
    case.item(LATEST, 21, cleared=True)
    case.item(LATEST, 22)


def test_plain_loss_with_word_of_it_passes():
    case = Case()
    case.start(PLAIN)
    case.ledger.feed("suspect")
    case.ledger.feed("ok")
    case.now += 5
    case.item(PLAIN, 4, n=9)
    case.item(PLAIN, 5, n=10)


def test_plain_loss_behind_an_item_of_a_suspect_time_passes():
    case = Case()
    case.start(PLAIN)
    case.ledger.feed("suspect")
    case.now += 5
    case.item(PLAIN, 4)
    case.now += 5
    case.ledger.feed("ok")
    case.item(PLAIN, 5, n=8)


def test_plain_loss_on_a_channel_that_the_ack_doubted_passes():
    case = Case()
    case.start(PLAIN, doubtful=True)
    with flagged("no word of a suspect feed"):
        case.item(PLAIN, 4, n=9)
    case = Case()
    case.subscribe(PLAIN, doubtful=True)
    case.item(PLAIN, 3, epoch=EPOCH, snap=True)
    case.item(PLAIN, 4, n=9)
    with flagged("no word of a suspect feed"):
        case.item(PLAIN, 5, n=12)


def test_plain_loss_that_nobody_can_know_of_passes():
    case = Case()
    case.start(PLAIN)
    case.truths[PLAIN].lose(4)
    case.item(PLAIN, 4, n=5)


def test_a_new_epoch_passes_after_a_rewind():
    case = Case(rewinds=True)
    case.start(LOG, 5)
    case.truths[LOG].rewind()
    case.item(LOG, 4, n=4, epoch="c91f", snap=True)
    case.item(LOG, 5, n=6)


def test_a_position_that_was_taken_back_is_followed_by_a_beginning():
    """On a node that has not seen that number, so that nobody changes the epoch."""
    case = Case(rewinds=True)
    case.start(LOG, 20)
    case.truths[LOG].rewind()
    case.reconnect()
    case.subscribe(LOG, back=True)
    case.item(LOG, 18, epoch=EPOCH, snap=True)
    with flagged("repeated"):
        case.item(LOG, 18)


def test_a_beginning_behind_a_position_is_flagged_where_nothing_was_taken_back():
    case = Case(rewinds=True)
    case.start(LOG, 20)
    case.reconnect()
    case.subscribe(LOG, back=True)
    with flagged("behind seq 20"):
        case.item(LOG, 18, epoch=EPOCH, snap=True)


def test_what_a_change_to_all_had_skipped_before_passes():
    case = Case(calm=True)
    case.start(LATEST)
    case.subscribe(LATEST, mode="all")
    case.item(LATEST, 6, epoch=EPOCH, snap=True, missed=2)
    with flagged("lost in mode all"):
        case.item(LATEST, 9, missed=2)


# --- histories that are wrong --------------------------------------------------------------------


@pytest.mark.parametrize("channel", [LATEST, LOG, PLAIN])
@pytest.mark.parametrize("calm", [True, False])
def test_loss_is_flagged(channel, calm):
    case = Case(calm=calm)
    case.start(channel)
    with flagged("missed says 0"):
        case.item(channel, 5)


@pytest.mark.parametrize("channel, calm", [(LOG, True), (LOG, False), (PLAIN, True)])
def test_loss_in_all_that_need_not_be_is_flagged_though_it_is_said(channel, calm):
    case = Case(calm=calm)
    case.start(channel)
    with flagged("lost in mode all"):
        case.item(channel, 6, missed=2)


@pytest.mark.parametrize("missed", [1, 3, 2**64 - 1])
def test_a_wrong_count_is_flagged(missed):
    case = Case()
    case.start(LATEST)
    with flagged("missed says"):
        case.item(LATEST, 6, missed=missed)


@pytest.mark.parametrize("missed", [1, 2**64 - 1])
def test_a_wrong_count_before_a_snapshot_is_flagged(missed):
    case = Case()
    case.start(LATEST)
    with flagged("before a snapshot"):
        case.item(LATEST, 3, snap=True, epoch=EPOCH, missed=missed)


@pytest.mark.parametrize("channel", [LATEST, LOG, PLAIN])
def test_a_repeat_is_flagged(channel):
    case = Case()
    case.start(channel)
    with flagged("repeated|on one connection"):
        case.item(channel, 3)


@pytest.mark.parametrize("channel", [LATEST, LOG, PLAIN])
def test_going_backwards_is_flagged(channel):
    case = Case()
    case.start(channel, 8)
    with flagged("backwards|on one connection"):
        case.item(channel, 6)


def test_a_snapshot_behind_the_client_is_flagged():
    case = Case()
    case.start(LATEST, 8)
    with flagged("a snapshot behind"):
        case.item(LATEST, 6, snap=True, epoch=EPOCH)


def test_two_items_in_the_wrong_order_are_flagged():
    case = Case()
    case.start(LATEST)
    case.item(LATEST, 5, missed=1)
    with flagged("backwards|repeated"):
        case.item(LATEST, 4)


def test_data_of_another_number_is_flagged():
    case = Case()
    case.start(LATEST)
    with flagged("n=5 here and n=4 elsewhere"):
        case.item(LATEST, 4, n=5)


def test_data_of_another_channel_is_flagged():
    case = Case()
    case.start(LATEST)
    with flagged("never published"):
        case.item(LATEST, 4, data=values.text(LOG, 4))


def test_data_that_was_printed_anew_is_flagged():
    case = Case()
    case.start(LATEST)
    with flagged("never published"):
        case.item(LATEST, 4, data=json.dumps(values.members(LATEST, 4)))


def test_data_that_is_still_to_be_published_is_flagged():
    case = Case()
    case.start(LATEST, 20)
    with flagged("never published"):
        case.item(LATEST, 21)


def test_two_clients_who_see_different_things_are_flagged():
    case = Case()
    truth = case.truths[LATEST]
    truth.lose(truth.send())
    truth.lose(truth.send())
    case.start(LATEST, 20)
    case.item(LATEST, 21, n=21)
    other = judge.Ledger(case.truths, judge.Rules(), clock=lambda: case.now)
    case.ledger = other
    case.start(LATEST, 20)
    with flagged("elsewhere"):
        case.item(LATEST, 21, n=22)


def test_a_patch_that_makes_something_else_is_flagged():
    case = Case()
    case.start(LATEST, delta=True)
    with flagged("does not make the value"):
        case.patch(LATEST, 4, side="neither")


def test_a_patch_that_leaves_something_out_is_flagged():
    case = Case()
    case.start(LATEST, delta=True)
    with flagged("does not make the value"):
        case.item(LATEST, 4, data='{"n":4}', patch=True)


def test_a_patch_on_something_else_is_flagged():
    case = Case()
    case.start(LATEST, delta=True)
    with flagged("without what it applies to"):
        case.patch(LATEST, 6)


def test_a_patch_as_first_item_is_flagged():
    case = Case()
    case.start(LATEST, delta=True)
    case.reconnect()
    case.subscribe(LATEST, back=True, recovered=True, delta=True)
    with flagged("without what it applies to"):
        case.item(LATEST, 4, epoch=EPOCH, data='{"n":4}', patch=True)


def test_a_patch_for_who_did_not_ask_is_flagged():
    case = Case()
    case.start(LATEST)
    with flagged("not asked for"):
        case.patch(LATEST, 4)


def test_a_hole_behind_recovery_is_flagged():
    case = Case()
    case.start(LOG)
    case.reconnect()
    case.subscribe(LOG, back=True, recovered=True)
    with flagged("missed says 0"):
        case.item(LOG, 5, epoch=EPOCH)


def test_a_snapshot_that_skips_behind_recovery_is_flagged():
    case = Case()
    case.start(LOG)
    case.reconnect()
    case.subscribe(LOG, back=True, recovered=True)
    with flagged("skips 4 without a word"):
        case.item(LOG, 8, epoch=EPOCH, snap=True)


def test_a_repeat_behind_recovery_is_flagged():
    case = Case()
    case.start(LOG)
    case.reconnect()
    case.subscribe(LOG, back=True, recovered=True)
    with flagged("repeated"):
        case.item(LOG, 3, epoch=EPOCH)


def test_going_on_with_a_hole_though_not_recovered_is_flagged():
    case = Case()
    case.start(LOG)
    case.reconnect()
    case.subscribe(LOG, back=True)
    with flagged("missed says 0"):
        case.item(LOG, 6, epoch=EPOCH)


def test_a_snapshot_behind_the_position_is_flagged():
    case = Case()
    case.start(LOG, 5)
    case.reconnect()
    case.subscribe(LOG, back=True)
    with flagged("a snapshot behind"):
        case.item(LOG, 4, epoch=EPOCH, snap=True)


def test_no_recovery_is_flagged_when_nothing_fails():
    case = Case(calm=True)
    case.start(LOG)
    case.reconnect()
    with flagged("not recovered"):
        case.subscribe(LOG, back=True)


def test_recovery_of_nothing_is_flagged():
    with flagged("without a position"):
        Case().subscribe(LOG, recovered=True)


def test_a_first_item_without_epoch_is_flagged():
    case = Case()
    case.subscribe(LATEST)
    with flagged("does not say its epoch"):
        case.item(LATEST, 3)


def test_a_new_epoch_without_reason_is_flagged():
    case = Case()
    case.start(LATEST)
    with flagged("the epoch changed"):
        case.item(LATEST, 1, n=4, epoch="c91f", snap=True)


def test_plain_loss_without_word_is_flagged():
    case = Case()
    case.start(PLAIN)
    with flagged("no word of a suspect feed"):
        case.item(PLAIN, 4, n=6)


def test_plain_loss_long_after_a_suspect_feed_is_flagged():
    case = Case()
    case.start(PLAIN)
    case.ledger.feed("suspect")
    case.ledger.feed("ok")
    case.now += 5
    case.item(PLAIN, 4)
    with flagged("no word of a suspect feed"):
        case.item(PLAIN, 5, n=6)


def test_an_item_after_unsubscribing_is_flagged():
    case = Case()
    case.start(LATEST)
    case.ledger.unsubscribed(LATEST)
    with flagged("not subscribed"):
        case.item(LATEST, 4)


def test_an_item_on_a_fresh_connection_is_flagged():
    case = Case()
    case.start(LATEST)
    case.reconnect()
    with flagged("not subscribed"):
        case.item(LATEST, 4)


def test_too_many_updates_are_flagged():
    case = Case(published=50)
    case.start(LATEST, max_rate=1)
    with flagged("max_rate 1"):
        for seq in range(4, 20):
            case.now += 0.1
            case.item(LATEST, seq)


@pytest.mark.parametrize("channel", [LATEST, LOG, PLAIN])
def test_a_stale_value_at_the_end_is_flagged(channel):
    case = Case()
    case.start(channel, 19)
    assert case.ledger.stale() == [channel]
    case.item(channel, 20)
    assert case.ledger.stale() == []
    case.publish(case.truths[channel])
    assert case.ledger.stale() == [channel]


def test_what_one_client_saw_counts_though_redis_never_answered_for_it():
    """Redis was killed between telling subscribers and telling the publisher."""
    case = Case()
    case.start(LOG, 20)
    behind, case.ledger = case.ledger, judge.Ledger(case.truths, judge.Rules())
    case.start(LOG, 20)
    n = case.truths[LOG].send()
    case.truths[LOG].lose(n)
    case.item(LOG, n)
    assert case.ledger.stale() == []
    assert behind.stale() == [LOG]


def test_what_redis_holds_is_the_newest_when_it_went_back_last():
    """Nothing was published since; what the client had is no more."""
    case = Case(rewinds=True)
    case.start(LOG, 20)
    case.truths[LOG].rewind()
    assert case.ledger.stale() == []
    case.truths[LOG].found(b"c91e", b"18", values.text(LOG, 18).encode())
    assert case.ledger.stale() == [LOG]
    case.item(LOG, 18, epoch="c91f", snap=True)
    assert case.ledger.stale() == []
    case.publish(case.truths[LOG], epoch="c91f")
    assert case.ledger.stale() == [LOG]


def test_a_value_that_was_cleared_after_redis_went_back_is_the_newest():
    case = Case(rewinds=True)
    case.start(LATEST, 20)
    case.truths[LATEST].rewind()
    n = case.publish(case.truths[LATEST], clear=True)
    assert case.ledger.stale() == [LATEST]
    case.item(LATEST, n, cleared=True)
    assert case.ledger.stale() == []


def test_a_client_that_never_got_a_value_is_stale():
    case = Case()
    case.subscribe(LOG)
    assert case.ledger.stale() == [LOG]
    assert case.ledger.stale(only_started=True) == []


# --- raw -----------------------------------------------------------------------------------------


def raw_case(**rules):
    case = Case(**rules)
    case.ledger.connect(raw=True)
    case.ledger.raw_subscribed([LOG, LATEST])
    return case


def test_raw_payloads_pass():
    case = raw_case(calm=True)
    for n in (4, 5, 6):
        case.ledger.raw_value(values.text(LOG, n))
    case.ledger.raw_value(values.text(LATEST, 3))
    case.ledger.raw_value(values.text(LATEST, 9))


def test_a_raw_client_is_not_told_of_a_value_that_was_taken_back():
    case = raw_case(rewinds=True)
    case.ledger.raw_value(values.text(LOG, 20))
    case.truths[LOG].rewind()
    case.truths[LOG].found(b"c91e", b"18", values.text(LOG, 18).encode())
    assert LOG not in case.ledger.stale()
    case.publish(case.truths[LOG])
    assert LOG in case.ledger.stale()


@pytest.mark.parametrize("then, what", [(5, "on one connection"), (4, "on one connection"),
                                        (7, "lost before"), (21, "never published")])
def test_wrong_raw_payloads_are_flagged(then, what):
    case = raw_case(calm=True)
    case.ledger.raw_value(values.text(LOG, 5))
    with flagged(what):
        case.ledger.raw_value(values.text(LOG, then))


# --- the record ----------------------------------------------------------------------------------


def test_an_answer_that_clients_contradict_is_flagged():
    truth = Truth(LATEST)
    for _ in range(3):
        truth.send()
    assert truth.saw(EPOCH, 1, 2) is None
    assert "elsewhere" in truth.answer(1, EPOCH, 1)


def test_numbers_out_of_order_are_found_at_the_end():
    truth = Truth(LATEST)
    truth.sent = 3
    truth.answer(2, EPOCH, 1)
    truth.answer(1, EPOCH, 2)
    assert len(truth.audit()) == 1
