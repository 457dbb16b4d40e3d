"""The files of a folder on a disk."""

from pipeline.store import files


def test_files_of_a_folder_are_those_whose_names_fit_in_order_and_no_folders(tmp_path):
    for name in ("a-part-2", "a-part-1", "b-part-1", "a-frames", ".a-part-3"):
        (tmp_path / name).write_text("")
    (tmp_path / "a-part-4").mkdir()
    assert files(tmp_path, "a-part-*") == [tmp_path / "a-part-1", tmp_path / "a-part-2"]
    for pattern in ("*", "*-part-?", "[ab]-part-1", "a-frames", "A*", "nothing"):
        assert files(tmp_path, pattern) == sorted(
            path for path in tmp_path.glob(pattern) if path.is_file()
        )


def test_where_there_is_no_folder_there_are_no_files(tmp_path):
    assert files(tmp_path / "nowhere") == []
    (tmp_path / "file").write_text("")
    assert files(tmp_path / "file") == []
