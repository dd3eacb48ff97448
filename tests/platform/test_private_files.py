"""Files and directories of this user, and those that another user could change."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from derail.platform.private_files import is_of_another_user, make_private, open_private, why_not_own

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of another user")
STRANGER = 65534


def test_a_private_file_and_directory_are_this_users_alone(tmp_path):
    """Whatever the umask allows; an existing file keeps its mode."""
    before = os.umask(0)
    try:
        directory = make_private(tmp_path / "a" / "b")
        os.close(open_private(directory / "file", os.O_WRONLY))
    finally:
        os.umask(before)
    (tmp_path / "there").mkdir(mode=0o755)
    make_private(tmp_path / "there")

    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "file").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o755


def test_a_file_of_this_user_may_be_written_and_one_that_is_not_there(tmp_path):
    """In a directory that no other user may write to, and in one with the sticky bit, as /tmp."""
    (tmp_path / "file").touch()
    sticky = tmp_path / "sticky"
    sticky.mkdir()
    sticky.chmod(0o1777)

    assert why_not_own(tmp_path / "file") == ""
    assert why_not_own(tmp_path / "absent") == ""
    assert why_not_own(sticky / "absent") == ""


def test_links_devices_and_world_writable_directories_are_refused(tmp_path):
    """Another user could replace the file, or it points elsewhere."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    everybody = tmp_path / "everybody"
    (everybody / "below").mkdir(parents=True)
    everybody.chmod(0o777)
    (tmp_path / "to").symlink_to(everybody / "below")

    assert "link" in why_not_own(tmp_path / "link")
    assert why_not_own("/dev/null")
    assert why_not_own(everybody / "below" / "file") == f"{everybody}: every user may write there"
    assert why_not_own(tmp_path / "to" / "file") == f"{everybody}: every user may write there"
    assert "null" in why_not_own(tmp_path / "nu\0ll")


@needs_root
def test_paths_of_another_user_are_refused(tmp_path):
    """A file of that user, and a file of ours in a directory of that user."""
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", STRANGER, STRANGER)
    (tmp_path / "its" / "a").mkdir(parents=True)
    os.chown(tmp_path / "its", STRANGER, STRANGER)

    assert why_not_own(tmp_path / "file") == f"{tmp_path / 'file'}: belongs to user {STRANGER}"
    assert why_not_own(tmp_path / "its" / "a" / "ours") == f"{tmp_path / 'its'}: belongs to user {STRANGER}"
    with pytest.raises(PermissionError, match=f"belongs to user {STRANGER}"):
        open_private(Path(tmp_path / "file"), os.O_WRONLY)


@needs_root
def test_a_directory_counts_as_another_users_if_that_owns_it_or_may_change_it(tmp_path):
    """A missing directory belongs to no user; /tmp with its sticky bit is safe."""
    answers = [is_of_another_user(tmp_path), is_of_another_user(tmp_path / "absent")]
    tmp_path.chmod(0o1777)
    answers.append(is_of_another_user(tmp_path))
    tmp_path.chmod(0o777)
    answers.append(is_of_another_user(tmp_path))
    tmp_path.chmod(0o700)
    os.chown(tmp_path, STRANGER, STRANGER)
    answers.append(is_of_another_user(tmp_path))
    os.chown(tmp_path, 0, 0)

    assert answers == [False, False, False, True, True]


@needs_root
def test_owners_above_a_directory_that_this_user_has_named_are_not_checked(tmp_path):
    """In a container the mounted folder belongs to another user; below the named directory that is not allowed."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    named = make_private(mounted / "named")
    (named / "other").mkdir()
    os.chown(named / "other", STRANGER, STRANGER)
    os.chown(mounted, STRANGER, STRANGER)

    assert why_not_own(named / "file") == f"{mounted}: belongs to user {STRANGER}"
    assert why_not_own(named / "file", below=named) == ""
    assert why_not_own(named / "other" / "file", below=named) == f"{named / 'other'}: belongs to user {STRANGER}"
    assert why_not_own(named / ".." / "file", below=named) == f"{mounted}: belongs to user {STRANGER}"
    os.chown(mounted, 0, 0)
