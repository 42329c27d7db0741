"""Coded values: implied systems, the right language, and identifiers that identify nothing."""

import pytest

from mdib_models.coding import MDC, CodedValue, InstanceIdentifier, LocalizedText, text_of


@pytest.mark.parametrize(
    ("system", "full", "mdc"), [(None, MDC, True), ("", MDC, True), (MDC, MDC, True), ("urn:x", "urn:x", False)]
)
def test_the_implied_coding_system_is_11073_10101(system, full, mdc):
    code = CodedValue("147842", system)
    assert (code.system, code.is_mdc) == (full, mdc)


ENGLISH = LocalizedText("Heart rate", "en-US")
SHORT = LocalizedText("HR", "en-GB")
GERMAN = LocalizedText("Herzfrequenz", "de-DE")
FRENCH = LocalizedText("Pouls", "fr")
UNSAID = LocalizedText("Rate")
REFERENCE = LocalizedText(ref="hr.text", lang="de")


@pytest.mark.parametrize(
    ("texts", "lang", "text"),
    [
        ((ENGLISH, GERMAN), "de", "Herzfrequenz"),
        ((ENGLISH, GERMAN), "de-AT", "Herzfrequenz"),
        ((ENGLISH, GERMAN), "DE", "Herzfrequenz"),
        ((GERMAN, ENGLISH), "fr", "Heart rate"),  # English where the language is missing
        ((GERMAN, ENGLISH, SHORT), "fr", "Heart rate"),  # the first of several
        ((ENGLISH, SHORT), "en", "Heart rate"),
        ((SHORT, ENGLISH), "en-US", "HR"),
        ((FRENCH, GERMAN), "it", "Pouls"),  # the first where English is missing too
        ((GERMAN, UNSAID), "en", "Rate"),  # a text without a language is taken as English
        ((REFERENCE, ENGLISH), "de", "Heart rate"),  # a reference holds no text
        ((REFERENCE,), "de", None),
        ((), "en", None),
    ],
)
def test_the_text_in_a_language_else_english_else_the_first(texts, lang, text):
    assert text_of(texts, lang) == text
    assert CodedValue("1", concept_description=texts).text(lang) == text


def test_english_is_asked_for_where_nothing_is_said():
    assert CodedValue("1", concept_description=(GERMAN, ENGLISH)).text() == "Heart rate"


@pytest.mark.parametrize(
    ("root", "extension", "is_empty"),
    [
        (None, None, True),
        ("", "", True),
        ("biceps.uri.unk", None, True),
        ("biceps.uri.unk", "", True),
        (None, "4711", False),
        ("biceps.uri.unk", "4711", False),
        ("urn:oid:1.2.3", None, False),
        ("urn:oid:1.2.3", "4711", False),
    ],
)
def test_an_identifier_without_extension_and_root_identifies_nothing(root, extension, is_empty):
    assert InstanceIdentifier(root, extension).is_empty is is_empty
