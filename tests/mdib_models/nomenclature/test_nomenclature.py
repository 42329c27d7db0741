"""The code table against itself, the clauses it serves and worked examples of the mappings."""

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdib_models import nomenclature
from mdib_models.nomenclature import by_code, by_refid, by_ucum, is_private, setting_code, terms


@pytest.mark.parametrize(
    ("code", "refid"),
    [
        (147842, "MDC_ECG_HEART_RATE"),
        (150456, "MDC_PULS_OXIM_SAT_O2"),
        (266016, "MDC_DIM_MMHG"),
        (69965, "MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS"),
        (264320, "MDC_DIM_SEC"),
    ],
)
def test_known_codes_are_found_both_ways_and_as_text(code, refid):
    term = by_code(code)
    assert term is not None
    assert term.refid == refid
    assert by_code(str(code)) is term
    assert by_refid(refid) is term


@pytest.mark.parametrize("code", [0, -1, 16770, 2**40, "", "abc", "1 47842", "-5", "+147842", "١٤٧٨٤٢", "9" * 5000])
def test_what_is_no_known_code_is_none(code):
    assert by_code(code) is None


def test_kind_narrows_the_lookup():
    assert by_code(266016, "unit") is by_code(266016)
    assert by_code(266016, "metric") is None


def test_every_row_agrees_with_itself_and_names_its_source():
    rows = terms()
    assert len(rows) > 1000
    for term in rows:
        assert term.code == term.partition * 65536 + term.term
        assert term.source
        assert by_code(term.code, term.kind) is term
        assert not term.refid or by_refid(term.refid) is term
        assert re.fullmatch(r"(MDC_[A-Za-z0-9_]+)?", term.refid), term
    assert len({term.code for term in rows}) == len(rows)


def test_partitions_fit_the_kinds():
    wanted = {"device": {1, 8}, "metric": {2, 8, 128, 258}, "event": {3}, "unit": {4}, "site": {7}}
    for kind, partitions in wanted.items():
        assert {term.partition for term in terms() if term.kind == kind} <= partitions


def test_former_names_lead_to_the_present_term():
    assert by_refid("MDC_ECG_CARD_BEAT_RATE") is by_code(147842)
    assert nomenclature.former_names(by_code(147842)) == ("MDC_ECG_CARD_BEAT_RATE",)
    assert by_refid("MDC_DIM_X_L") is by_refid("MDC_DIM_L")
    assert by_refid("MDC_NO_SUCH_THING") is None


def test_alternatives_are_split_and_keep_their_order():
    heart_rate = by_code(147842)
    assert heart_rate.ucum == ("/min", "{beats}/min", "1/min", "{beat}/min")
    assert heart_rate.loinc == ("8867-4",)
    assert by_code(131328).ucum == ()


def test_ucum_leads_to_units_those_that_prefer_it_first():
    assert [term.refid for term in by_ucum("mm[Hg]")] == ["MDC_DIM_MMHG"]
    assert {"MDC_DIM_PER_MIN", "MDC_DIM_BEAT_PER_MIN"} <= {term.refid for term in by_ucum("/min")}
    for term in terms():
        for ucum in term.ucum if term.kind == "unit" else ():
            places = [unit.ucum.index(ucum) for unit in by_ucum(ucum)]
            assert term in by_ucum(ucum)
            assert places == sorted(places)
    assert by_ucum("MM[HG]") == ()
    assert by_ucum("") == ()


def test_a_setting_with_a_row_of_its_own_keeps_it():
    assert setting_code(151980) == 16929196
    own = by_code(16929196)
    assert own.refid == "MDC_VENT_VOL_TIDAL_SETTING"
    assert own.loinc == ("20112-9",)
    assert own in terms()


def test_a_setting_without_a_row_is_made_from_its_measurement():
    measured = by_refid("MDC_PRESS_AWAY")
    made = by_code(setting_code(measured.code), "metric")
    assert (made.refid, made.partition, made.term) == ("MDC_PRESS_AWAY_SETTING", 258, measured.term)
    assert made.ucum == measured.ucum
    assert made.loinc == ()
    assert made.source.startswith(f"setting of {measured.code}")
    assert by_refid("MDC_PRESS_AWAY_SETTING") == made


def test_no_setting_is_made_of_nothing():
    assert by_code(258 * 65536 + 1) is None
    assert by_refid("MDC_DIM_MMHG_SETTING") is None
    assert by_refid("MDC_NO_SUCH_THING_SETTING") is None
    with pytest.raises(ValueError, match="266016 is no measurement: its partition is 4"):
        setting_code(266016)


@given(partition=st.integers(0, 2**15), term=st.integers(0, 0xFFFF))
def test_r8119_private_codes_are_known_by_their_number(partition, term):
    code = partition * 65536 + term
    assert is_private(code) == (term >= 0xF000 or partition >= 1024)
    assert is_private(str(code)) == is_private(code)


@pytest.mark.parametrize(
    ("code", "private"), [(67108865, True), (126977, True), (147842, False), ("x", False), (-1, False)]
)
def test_private_examples(code, private):
    assert is_private(code) is private


@given(st.text(max_size=30))
def test_any_text_is_answered(text):
    assert by_code(text) is None or text.isdecimal()
    assert is_private(text) in (True, False)
    assert isinstance(by_ucum(text), tuple)


def test_importing_the_table_does_not_read_it_and_load_does():
    script = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import mdib_models.nomenclature as n\n"
        "assert n._table.cache_info().currsize == 0\n"
        "n.load()\n"
        "assert n._table.cache_info().currsize == 1\n"
        "assert not {'asyncio', 'sqlite3', 'fastapi', 'sdc11073'} & (set(sys.modules) - before)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_row_that_contradicts_itself_is_refused():
    row = {"kind": "unit", "refid": "X", "code10101": "5", "partition": "4", "term": "0"}
    with pytest.raises(ValueError, match="code 5 contradicts itself"):
        nomenclature._term(row)
