"""The order in which the measures of a score are played."""

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from data_prep.importers.verovio_scores.repeats import Signs, played_order
from data_prep.importers.verovio_scores.signs import signs_of_mei, signs_of_musicxml
from data_prep.midi.limits import LIMITS, MidiError

PLAIN = Signs()
BEGIN, END = Signs(begins_repeat=True), Signs(times=2)
FIRST, SECOND = Signs(endings={1}, times=2), Signs(endings={2})
SEGNO, TO_CODA, CODA, FINE = (
    *(Signs(is_segno=True), Signs(to_coda=True), Signs(is_coda=True), Signs(is_fine=True)),
)
CAPO, DAL_SEGNO = Signs(jump="capo"), Signs(jump="segno")
MOVEMENT = Signs(begins_movement=True)


def order(*signs):
    return "".join(str(place + 1) for place in played_order(signs, LIMITS))


@pytest.mark.parametrize(
    ("signs", "played"),
    [
        ([PLAIN, PLAIN], "12"),
        ([PLAIN, BEGIN, END, PLAIN], "123234"),
        ([PLAIN, END, PLAIN], "12123"),
        ([PLAIN, END, PLAIN, END, PLAIN], "121234345"),  # begins after the last repeat
        ([BEGIN, Signs(times=3), PLAIN], "1212123"),
        ([BEGIN, FIRST, SECOND, PLAIN], "12134"),
        ([BEGIN, FIRST, SECOND, END, PLAIN], "1213445"),
        ([BEGIN, Signs(endings={1, 2}, times=2), Signs(endings={3})], "121213"),
        ([BEGIN, replace(FIRST, times=0), FIRST, SECOND, SECOND, PLAIN], "123145" + "6"),
        ([BEGIN, FIRST, replace(SECOND, times=2), PLAIN], "12134"),
        ([BEGIN, FIRST, PLAIN], "1213"),  # the second ending has no sign
        ([PLAIN, FINE, CAPO], "12312"),
        ([PLAIN, SEGNO, TO_CODA, DAL_SEGNO, CODA], "1234235"),
        ([PLAIN, SEGNO, FINE, DAL_SEGNO], "123423"),
        ([BEGIN, FIRST, SECOND, FINE, CAPO], "121345134"),  # after a jump, the last ending
        ([END, FINE, BEGIN, replace(END, jump="capo")], "112343412"),  # and no repeats
        ([PLAIN, DAL_SEGNO, PLAIN], "12123"),  # no segno: from the beginning
    ],
)
def test_repeats_endings_and_jumps_are_played(signs, played):
    assert order(*signs) == played


def test_movements_have_repeats_and_jumps_of_their_own():
    minuet = [MOVEMENT, replace(FINE, times=2), CAPO]
    assert order(*minuet, *minuet, MOVEMENT, END) == "1212312" + "4545645" + "7878"
    # A trio begins like a movement, but D.C. goes to the minuet, where the Fine is.
    assert order(MOVEMENT, PLAIN, FINE, MOVEMENT, CAPO, PLAIN) == "12345" + "123" + "6"


@pytest.mark.parametrize(
    "signs", [[PLAIN, SECOND, PLAIN], [BEGIN, FIRST, Signs(endings={3}), PLAIN], [CODA, TO_CODA]]
)
def test_signs_that_make_no_sense_leave_no_measure_out(signs):
    assert {*order(*signs)} == {str(n + 1) for n in range(len(signs))}


def test_order_is_bounded():
    with pytest.raises(MidiError, match="too_many_bars"):
        played_order([Signs(times=10**9)], LIMITS)


# ---------------------------------------------------------------- signs of the formats


def musicxml(*measures, more_parts=()):
    parts = "".join(
        "<part>"
        + "".join(f"<measure number='{n}'>{m}</measure>" for n, m in enumerate(part, 1))
        + "</part>"
        for part in (measures, *more_parts)
    )
    signs = signs_of_musicxml(ET.fromstring(f"<score-partwise>{parts}</score-partwise>"))
    return order(*signs)


def barline(inside, location="right", style="light-heavy"):
    return f"<barline location='{location}'><bar-style>{style}</bar-style>{inside}</barline>"


FORWARD, BACKWARD = "<repeat direction='forward'/>", "<repeat direction='backward'/>"


def test_signs_of_musicxml_are_read_in_all_parts():
    begin, end = barline(FORWARD, "left"), barline(BACKWARD)
    assert musicxml("", begin, end, "") == "123234"
    assert musicxml("", "", "", "", more_parts=[("", begin, end, "")]) == "123234"
    ending = "<ending number='{}' type='{}'/>".format
    first = barline(ending("1, 2", "start"), "left") + barline(ending("1, 2", "stop") + BACKWARD)
    third = barline(ending("3", "start"), "left") + barline(ending("3", "discontinue"))
    assert musicxml("", first, third, "") == "1212134"
    long = barline(ending("1", "start"), "left"), barline(ending("1", "stop") + BACKWARD)
    assert musicxml("", *long, barline(ending("2", "start"), "left"), "") == "1231" + "45"
    assert musicxml("", barline(BACKWARD.replace("/", " times='4'/"))) == "12" * 4


def test_jumps_of_musicxml_are_sounds_or_words():
    def words(text):
        return f"<direction><direction-type><words>{text}</words></direction-type></direction>"

    for capo, fine in (
        ("<sound dacapo='yes'/>", "<sound fine='yes'/>"),
        (words("D.C. al Fine"), words("Fine")),
    ):
        assert musicxml("", fine, capo) == "12312"
    segno = "<direction><direction-type><segno/></direction-type></direction>"
    coda = segno.replace("segno", "coda")
    assert musicxml("", segno, words("To Coda"), words("D.S. al Coda"), coda) == "1234235"
    assert musicxml("", words("Finely"), words("Dear Sir"), words("dolce, segno")) == "1234"


def test_movements_of_musicxml_begin_with_a_new_meter_or_number_after_a_final_bar_line():
    time = "<attributes><time/></attributes>"
    final = barline("")
    fine, capo = "<sound fine='yes'/>", "<sound dacapo='yes'/>"
    assert (
        musicxml(final, time, fine, capo + final, time, barline(BACKWARD))
        == "1234" + "23" + "56" * 2
    )
    assert musicxml("", time, fine, capo) == "1234" + "123"  # no final bar line


def test_signs_of_mei_are_read():
    def mei(inside):
        root = f"<mei xmlns='http://www.music-encoding.org/ns/mei'><mdiv>{inside}</mdiv></mei>"
        return order(*signs_of_mei(ET.fromstring(root)))

    plain = "<measure/>"
    assert mei(f"{plain}<measure left='rptstart'/><measure right='rptend'/>{plain}") == "123234"
    assert mei(f"{plain}<measure right='rptboth'/><measure right='rptend'/>") == "121233"
    ending = "<ending n='{}'><measure right='{}'/></ending>".format
    assert mei(f"{plain}{ending(1, 'rptend')}{ending('2.', 'end')}{plain}") == "12134"
    mark = "<measure><repeatMark func='{}'/></measure>".format
    assert mei(f"{plain}{mark('fine')}{mark('daCapo')}") == "12312"
    assert (
        mei(f"{plain}<measure right='rptend'/></mdiv><mdiv>{plain}{mark('daCapo')}")
        == "1212" + "3434"
    )
