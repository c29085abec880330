"""A log gets whole lines with the time, the count, the rate and what is left; a terminal gets a bar."""

import io
import re
import sys

import pytest

import cpal.running.progress

LINE = re.compile(
    r"\d\d:\d\d:\d\d refine CRF: (\d)/4 img, +(\?|[\d.]+)img/s, (\d\d:)+\d\d so far, (\?|(\d\d:)+\d\d) left"
)


def test_a_log_gets_whole_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(cpal.running.progress, "BETWEEN", 0)
    assert list(cpal.running.progress.bar("abcd", total=4, desc="refine CRF", unit="img")) == [*"abcd"]
    text = capsys.readouterr().err
    lines = [LINE.fullmatch(line) for line in text.splitlines()]
    assert "\r" not in text and text.endswith("\n")
    counts = [int(line[1]) for line in lines if line]
    assert len(counts) == len(lines), text
    assert counts[0] == 0 and counts[-1] == 4 and counts == sorted(counts) and len(set(counts)) > 2


def test_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    """Within half a minute: one at the start, one at the end."""
    for _ in cpal.running.progress.bar(range(20_000), total=20_000, desc="refine CRF", unit="img"):
        pass
    assert re.findall(r"(\d+)/20000", capsys.readouterr().err) == ["0", "20000"]


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(cpal.running.progress.bar("abcd", total=4, desc="refine CRF", unit="img")) == [*"abcd"]
    assert "\rrefine CRF: 100%" in terminal.getvalue() and "so far" not in terminal.getvalue()
