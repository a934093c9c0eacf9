"""Files that are the old one or the new: that checkpoints are, whatever happens, is in `test_training.py`."""

import pytest

from tinygrad_nlp.files import replace_file


def test_a_file_is_replaced_and_nothing_is_left_beside(tmp_path):
    (tmp_path / ".a.txt.123.tmp").write_text("of a process that was killed")
    for content in (b"one", b"", b"three"):
        replace_file(tmp_path / "a.txt", content)
        assert (tmp_path / "a.txt").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").touch()
    for path in (tmp_path / "missing" / "b", tmp_path / "a", tmp_path / "a" / "inside" / "b", tmp_path / ("x" * 250)):
        with pytest.raises(OSError, match=r"^\[\D+\d+\] [^']+: '[^']+'$") as refused:
            replace_file(path, b"content")
        assert refused.value.filename == str(path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
