"""Tests of HTML made of text from anywhere."""

from deepfake_detect.drawing.html import escape


def test_letters_that_cannot_be_seen_are_spelt_out_and_spaces_are_kept() -> None:
    assert escape("<i>\u202e\x00\x7f") == r"&lt;i&gt;\u202e\x00\x7f"
    assert escape("a\u00a0b\tc\nd é 中") == "a\u00a0b\tc\nd é 中"
