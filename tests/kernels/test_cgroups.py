"""Limits of control groups, read from made-up trees of files."""

import os
import pathlib

import pytest

from nbkeras.kernels.runtime import cgroups

V1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 {top} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
V1 += "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
V2 = "30 24 0:26 {top} /sys/fs/cgroup rw,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(root, files):
    for name, text in files.items():
        path = pathlib.Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def version_1(path, top="/"):
    groups = f"9:name=systemd:/\n4:memory:{path}\n2:cpuacct,cpu:{path}\n"
    return {"proc/self/cgroup": groups, "proc/self/mountinfo": V1.format(top=top)}


def version_2(path, top="/"):
    return {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2.format(top=top)}


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_processors_that_share_a_core_count_as_one(tmp_path, monkeypatch, name):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 5})
    pairs = {0: "0,4", 1: "1,5", 2: "2-3", 5: "1,5"}
    files = {f"sys/devices/system/cpu/cpu{number}/topology/{name}": f"{pair}\n" for number, pair in pairs.items()}
    assert cgroups.allowed_cores(tree(tmp_path, files)) == cgroups.usable_processors(str(tmp_path)) == 3
    files = {"sys/fs/cgroup/cpu.max": "200000 100000"}
    assert cgroups.usable_processors(tree(tmp_path, version_2("/") | files)) == 2


def test_no_groups(tmp_path):
    assert cgroups.processors(str(tmp_path)) is None and cgroups.memory(str(tmp_path)) is None
    assert (
        cgroups.usable_processors(str(tmp_path)) == cgroups.allowed_cores(str(tmp_path)) == len(os.sched_getaffinity(0))
    )


@pytest.mark.parametrize("text, quota", [("max 100000", None), ("150000 100000", 1.5), ("", None), ("50000", None)])
def test_processors_of_version_2(tmp_path, text, quota):
    assert cgroups.processors(tree(tmp_path, version_2("/") | {"sys/fs/cgroup/cpu.max": text})) == quota


@pytest.mark.parametrize("quota, expected", [("-1", None), ("250000", 2.5)])
def test_processors_of_version_1(tmp_path, quota, expected):
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": quota, "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}
    assert cgroups.processors(tree(tmp_path, version_1("/") | files)) == expected


def test_the_tightest_of_the_groups_around_counts(tmp_path):
    files = {"sys/fs/cgroup/cpu.max": "max 100000", "sys/fs/cgroup/a/cpu.max": "200000 100000"}
    files |= {"sys/fs/cgroup/a/b/cpu.max": "800000 100000", "sys/fs/cgroup/a/b/c/cpu.max": "max 100000"}
    files |= {"sys/fs/cgroup/a/b/memory.max": "1000", "sys/fs/cgroup/a/memory.max": "max"}
    root = tree(tmp_path, version_2("/a/b/c") | files)
    assert cgroups.processors(root) == 2.0 and cgroups.memory(root) == 1000


def test_a_container_sees_its_own_group_as_the_top_of_the_mount(tmp_path):
    files = {"sys/fs/cgroup/memory/memory.limit_in_bytes": "4096"}
    assert cgroups.memory(tree(tmp_path, version_1("/docker/abc", "/docker/abc") | files)) == 4096


@pytest.mark.parametrize("path", ["/docker/abc", "/../../else", "/docker/../else"])
def test_a_group_that_is_not_mounted_here_has_the_limits_of_the_mount(tmp_path, path):
    files = {"sys/fs/cgroup/cpu.max": "100000 100000"}
    assert cgroups.processors(tree(tmp_path, version_2(path, "/docker") | files)) == 1.0


def test_both_versions_at_the_same_time(tmp_path):
    files = version_1("/x")
    files["proc/self/cgroup"] += "0::/y\n"
    files["proc/self/mountinfo"] += "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
    files |= {"sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "300000", "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000"}
    files |= {
        "sys/fs/cgroup/unified/y/memory.max": "77",
        "sys/fs/cgroup/memory/x/memory.limit_in_bytes": str(2**63 - 4096),
    }
    root = tree(tmp_path, files)
    assert cgroups.processors(root) == 3.0 and cgroups.memory(root) == 77


def test_a_mount_with_a_space_in_its_name(tmp_path):
    files = {"proc/self/mountinfo": "30 24 0:26 / /my\\040groups rw - cgroup2 none rw\n", "proc/self/cgroup": "0::/\n"}
    assert cgroups.memory(tree(tmp_path, files | {"my groups/memory.max": "5"})) == 5


@pytest.mark.parametrize("text", ["", "\n::\n0\n", "0::/a\n1 2\n- -\n3 4 5 / /x rw - cgroup2\n"])
def test_files_that_are_damaged_mean_no_limit(tmp_path, text):
    root = tree(tmp_path, {"proc/self/cgroup": text, "proc/self/mountinfo": text})
    assert cgroups.processors(root) is None and cgroups.memory(root) is None


@pytest.mark.parametrize("quota, count", [("10000", 1), ("99999900000", None)])
def test_usable_processors(tmp_path, quota, count):
    root = tree(tmp_path, version_2("/") | {"sys/fs/cgroup/cpu.max": f"{quota} 100000"})
    assert cgroups.usable_processors(root) == (count or len(os.sched_getaffinity(0)))


def test_a_system_that_tells_no_cores(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert cgroups.allowed_cores() == cgroups.allowed_processors() == 6
