"""Files: writes that are whole or not there at all."""

import os
from pathlib import Path

import pytest

from smdguard.errors import IntegrityError, SmdguardError
from smdguard.files import (
    final_name,
    is_file,
    is_folder,
    read,
    read_start,
    sha256,
    write_atomically,
    write_where_named,
    zoo_folder,
)


def test_write_makes_folders_and_replaces_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file.bin"
    for content in (b"old and long", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file.bin"]  # noqa: PTH208 - hidden files too.


def test_permissions_are_those_of_the_old_file_or_what_the_umask_leaves(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"")
    old.chmod(0o604)
    before = os.umask(0o027)
    try:
        for path in (old, new):
            write_atomically(path, b"content")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (old, new)] == [0o604, 0o640]


@pytest.mark.parametrize("step", ["fsync", "rename"])
def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    path = tmp_path / "file.bin"
    write_atomically(path, b"old")
    if step == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(SmdguardError, match=r"file\.bin cannot be written: no space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file.bin", b"new")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_write_leaves_is_known_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: left.extend(path.name for path in tmp_path.iterdir()))
    write_atomically(tmp_path / "file.bin", b"new")
    (name,) = left
    assert final_name(name) == "file.bin"
    assert all(final_name(other) is None for other in ("file.bin", ".file.bin", name[1:], f"{name}0", ".killed"))


@pytest.mark.parametrize("name", ["there", "not-yet-there"])
def test_a_link_in_a_folder_is_replaced_and_what_it_leads_to_is_left(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "there").chmod(0o700)
    (tmp_path / "link").symlink_to(tmp_path / name)
    write_atomically(tmp_path / "link", b"new")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"new"
    assert not (tmp_path / "link").stat().st_mode & 0o100
    assert (tmp_path / "there").read_bytes() == b"old"
    assert not (tmp_path / "not-yet-there").exists()


def test_a_pipe_in_a_folder_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    write_atomically(tmp_path / "pipe", b"new")
    assert (tmp_path / "pipe").read_bytes() == b"new"


def test_a_link_that_the_user_names_stays_one_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for name in ("there", "not-yet-there"):
        (tmp_path / name).symlink_to(tmp_path / "disk" / name)
    (tmp_path / "disk" / "there").write_bytes(b"old")
    for name in ("there", "not-yet-there"):
        write_where_named(tmp_path / name, b"new")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "disk" / name).read_bytes() == b"new"
    assert len(list((tmp_path / "disk").iterdir())) == 2


def test_what_the_user_names_and_is_no_regular_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_where_named(pipe, b"content")
        assert os.read(end, 100) == b"content"
    finally:
        os.close(end)
    assert pipe.is_fifo()
    receiver, sender = os.pipe()
    write_where_named(Path(f"/dev/fd/{sender}"), b"nameless")
    assert os.read(receiver, 100) == b"nameless"
    os.close(receiver)
    os.close(sender)
    with pytest.raises(SmdguardError, match="cannot be written: Is a directory"):
        write_where_named(tmp_path, b"content")


def test_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SmdguardError, match="file/inside cannot be written: File exists"):
        write_atomically(tmp_path / "file" / "inside", b"new")


def test_what_is_larger_than_the_limit_is_refused_and_not_cut(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert read(tmp_path / "file") == b"12345"
    assert read(tmp_path / "file", limit=5) == b"12345"
    for path in (tmp_path / "file", Path("/dev/zero")):
        with pytest.raises(IntegrityError, match=f"^{path} has more than 4 bytes, which is the limit$"):
            read(path, error=IntegrityError, limit=4, hint="; look elsewhere")


def test_the_start_of_a_file_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smdguard.files._PART_BYTES", 2)
    (tmp_path / "file").write_bytes(b"12345")
    assert [read_start(tmp_path / "file", count) for count in (0, 3, 4, 9)] == [b"", b"123", b"1234", b"12345"]


def test_a_file_that_memory_does_not_hold_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> bytes:
        raise MemoryError

    (tmp_path / "file").write_bytes(b"12345")
    monkeypatch.setattr("smdguard.files._first_bytes", exhausted)
    with pytest.raises(SmdguardError, match="file cannot be read: there is not enough memory"):
        read(tmp_path / "file", limit=10)


def test_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="none cannot be read: No such file or directory; look elsewhere"):
        read(tmp_path / "none", error=IntegrityError, hint="; look elsewhere")


def test_a_name_that_no_file_can_have_cannot_be_read() -> None:
    with pytest.raises(IntegrityError, match=r"with\?zero cannot be read: embedded null "):
        read(Path("with\0zero"), error=IntegrityError)


def test_folders_and_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert is_folder(tmp_path)
    assert is_file(tmp_path / "file")
    assert not any(map(is_folder, [tmp_path / "file", tmp_path / "none", "a" * 5000, "with\0zero"]))
    assert not any(map(is_file, [tmp_path, tmp_path / "none", "a" * 5000, "with\0zero"]))


def test_sha256_of_abc_is_that_of_fips_180() -> None:
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_zoo_folder_holds_the_manifest() -> None:
    assert (zoo_folder() / "manifest.json").is_file()
