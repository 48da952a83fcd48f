"""Encodings read without loss or not at all; names in two spellings."""

import os
import unicodedata

import pytest

from konomi.datasets.spelling import archive_encoding, decoded, lines_of, one_spelling, readable_name


@pytest.mark.parametrize(
    ("words", "encoding"),
    [
        ("a tall tree", "utf-8-sig"),
        ("a tall tree", "utf-16"),
        ("a tall tree", "utf-16-le"),
        ("a tall tree", "utf-16-be"),
        ("大きな木", "utf-16"),
        ("大きな木", "utf-32"),
        ("大きな木", "cp932"),
        ("大きな木", "euc_jp"),
        ("犬", "cp932"),
        ("1girl, 猫耳, solo", "cp932"),
        ("LoRA画像", "cp932"),
        ("générale, créée", "cp1252"),
        ("don’t look — “quoted”", "cp1252"),
        ("Ångström in El Niño", "latin-1"),
        ("猫 \U0001f431 naïve", "utf-8"),
        ("", "utf-8"),
    ],
)
def test_text_is_what_was_written(words, encoding):
    assert decoded(words.encode(encoding)) == words


@pytest.mark.parametrize(
    "data",
    [
        "一只猫在草地上".encode("gbk"),
        "고양이 그림".encode("euc_kr"),
        "кот на столе".encode("cp1251"),
        b"\xff\xfe\x00\xd8",
        b"\xef\xbb\xbf\xff",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0",
        bytes(range(256)),
    ],
)
def test_what_is_in_no_encoding_that_is_known_is_no_text(data):
    assert decoded(data) is None


def test_a_torn_last_character_is_no_damage_where_the_text_was_cut():
    assert decoded("大きな木".encode()[:-1], whole=False) == "大きな"
    assert decoded("大きな木".encode()[:-1]) is None


def test_only_line_feeds_and_carriage_returns_end_a_line():
    assert lines_of("a\u2028b\u0085c\x0bd\r\ne\rf\ng") == ["a\u2028b\u0085c\x0bd", "e", "f", "g"]


@pytest.mark.parametrize(
    "other",
    ["Set/Ä.png", unicodedata.normalize("NFD", "set/ä.png"), "set\\ä.PNG", "./set//ä.png", "SET/Ä.PNG"],
)
def test_spellings_of_one_name(other):
    assert one_spelling(other) == one_spelling("set/ä.png")
    assert one_spelling(other) != one_spelling("set/a.png")


def test_a_name_that_is_no_utf_8_is_read_as_its_bytes_meant_it():
    assert readable_name(os.fsdecode("10_大きな木".encode("cp932"))) == "10_大きな木"
    assert readable_name("10_sks dog") == "10_sks dog"
    strange = os.fsdecode(b"\xff\xfe\xfd")
    assert readable_name(strange) == strange


def test_names_of_an_archive_are_read_in_the_encoding_of_all_of_them():
    names = ["表紙.png", "ソファ/猫.png", "犬.png", "plain.png"]
    assert archive_encoding(name.encode("cp932") for name in names) == "cp932"
    assert archive_encoding(name.encode() for name in names) == "utf-8"
    assert archive_encoding([b"plain.png"]) == "utf-8"
    assert archive_encoding([b"\x81\xff\xfe.png"]) == "cp437"
