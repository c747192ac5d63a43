"""Numbers in words, as all views write them."""

from widgets.view import words


def test_numbers_in_words():
    assert [words.significant(v) for v in (0.34567, 15.13, 7184, 123456.7, 0, -0.0, 1e12)] == [
        "0.346", "15.1", "7,180", "123,000", "0", "0", "1,000,000,000,000",
    ]  # fmt: skip
    assert [words.thousands(v) for v in (0.5, 131072, 2.4)] == ["1", "131,072", "2"]
    assert words.with_prefix(811.7e9, "B") == "812 GB" and words.with_prefix(0.5, "B") == "0.5 B"
    assert [words.duration(s) for s in (0.0151, 2.041)] == ["15.1 ms", "2.04 s"]
    assert [words.percent(p) for p in (0.00352, 0.474, 1, 0)] == ["0.35%", "47%", "100%", "0%"]
    assert [words.with_letter(v) for v in (63, 10_000, 252e6, 2.87e12)] == [
        "63", "10K", "252M", "2.87T",
    ]  # fmt: skip
    assert words.with_letter(178_000, least=1e6) == "178,000"
    assert [words.scientific(v) for v in (0, 1e11, 3.8e25)] == ["0", "1e11", "3.8e25"]
    assert [words.fixed(v) for v in (0.125, 2)] == ["0.13", "2.00"]
    assert [words.gibibytes(b) for b in (2**24, 63 * 2**30, 1008 * 2**30)] == [
        "16 MiB", "63.0 GiB", "1,008 GiB",
    ]  # fmt: skip
    assert (
        words.count_of(1, "token") == "1 token" and words.count_of(1024, "token") == "1,024 tokens"
    )
