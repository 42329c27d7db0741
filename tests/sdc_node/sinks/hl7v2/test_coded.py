import pytest

from mdib_models.coding import CodedValue, LocalizedText, Translation
from sdc_node.sinks.hl7v2.coded import cwe, cwe_or_handle, is_private, race


def test_r8119_worked_example_of_a_private_code():
    coded = CodedValue("123455", translation=(Translation("123455", "urn:oid:1.3.6.1.4.1.1234.2"),))
    assert cwe(coded) == "123455^MDC_PRIVATE_123455^MDC^123455^^urn:oid:1.3.6.1.4.1.1234.2"


def test_r8119_versions_stand_in_cwe_7_and_8():
    coded = CodedValue(
        "67108865",
        coding_system_version="1",
        symbolic_code_name="MDC_X",
        translation=(Translation("67108865", "99XYZ", "2.0"),),
    )
    assert cwe(coded) == "67108865^MDC_X^MDC^67108865^^99XYZ^1^2.0"


@pytest.mark.parametrize("code", ["67108865", "61440", "192512"])
def test_private_by_number_without_a_translation(code):
    assert cwe(CodedValue(code)) == f"{code}^MDC_PRIVATE_{code}^MDC"


def test_another_translation_makes_no_code_private():
    coded = CodedValue("150456", translation=(Translation("59408-5", "http://loinc.org"),))
    assert not is_private(coded)
    assert cwe(coded) == "150456^MDC_PULS_OXIM_SAT_O2^MDC"


def test_translation_within_mdc_makes_no_code_private():
    assert not is_private(CodedValue("150456", translation=(Translation("150456"),)))


def test_table_comes_before_the_symbolic_name():
    assert cwe(CodedValue("150456", symbolic_code_name="MDC_WRONG")) == "150456^MDC_PULS_OXIM_SAT_O2^MDC"


def test_reference_id_falls_back_to_symbol_then_description_then_nothing():
    assert cwe(CodedValue("69999", symbolic_code_name="MDC_Y")) == "69999^MDC_Y^MDC"
    described = CodedValue("69999", concept_description=(LocalizedText("some device"), LocalizedText("MDC_DEV_Z_1")))
    assert cwe(described) == "69999^MDC_DEV_Z_1^MDC"
    assert cwe(CodedValue("69999")) == "69999^^MDC"


def test_other_coding_systems_go_out_literally_and_escaped():
    coded = CodedValue("a^b", "http://x/?a=1&b=2", symbolic_code_name="n|m")
    assert cwe(coded) == "a\\S\\b^n\\F\\m^http://x/?a=1\\T\\b=2"


def test_original_text_is_cwe_9():
    coded = CodedValue("196882", symbolic_code_name="MDC_EVT_LEADS_OFF")
    assert cwe(coded, original_text="!! ECG Leads Off") == "196882^MDC_EVT_LEADS_OFF^MDC^^^^^^!! ECG Leads Off"


def test_without_a_type_the_handle_is_a_local_code():
    assert cwe_or_handle(None, "vmd^1") == "vmd\\S\\1^^L"
    assert cwe_or_handle(CodedValue("150456"), "h").startswith("150456^")


def test_r8108_race_takes_the_first_translation():
    coded = CodedValue("W", "urn:r", symbolic_code_name="White", translation=(Translation("2106-3", "CDC", "1"),))
    assert race(coded) == "W^White^urn:r^2106-3^^CDC^^1"
    repeated = CodedValue("W", "urn:r", translation=(Translation("x", "a"), Translation("W", "b")))
    assert race(repeated) == "W^^urn:r^W^^b"
    assert race(CodedValue("1")) == "1^^MDC"
