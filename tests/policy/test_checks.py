"""Every check on a machine made by hand: what is fine, what is a state, what is told."""

import dataclasses
import math
import typing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.judged import GREEN, IDS, RED, Judged, look, raised, whole, with_card, with_drive
from tinybox.core.box import Box, load_box
from tinybox.core.config import Config
from tinybox.core.health import Status
from tinybox.core.snapshot import (
    Aer,
    Bmc,
    BmcSensor,
    Cpu,
    Ecc,
    Fault,
    Filesystem,
    GpuState,
    Holder,
    KernelLine,
    Nic,
    PcieLink,
    Psu,
    Raid,
    SelEntry,
    Snapshot,
    System,
    Wedged,
)
from tinybox.policy.checks.registry import CHECKS
from tinybox.policy.health import HealthMemory, judge


@pytest.mark.parametrize("name", ["red", "green", "green-3090", "blue", "mixed"])
def test_a_healthy_box_finds_every_check_fine_or_not_applicable(name: str) -> None:
    box = load_box(name)
    judged = Judged(box).run(whole(box), 20)
    wrong = {f.id: f.evidence for f in judged.findings if f.status not in (Status.OK, Status.NA)}
    assert wrong == {}
    assert {finding.id for finding in judged.findings} == IDS
    assert raised(whole(box), box) == {}


STATES = {
    "asleep": with_card(2, state=GpuState.ASLEEP),
    "observing": replace(whole(), is_armed=False),
    "a raised minimum of the cap": with_card(0, cap_min_w=261.0),
    "a link that rests": with_card(1, link_gts=2.5, busy_pct=0.0),
    "a fan that rests": with_card(1, fan_rpm=0.0, junction_c=40.0, edge_c=38.0),
    "user space with a limit": with_card(3, state=GpuState.USERSPACE, driver="tinygrad", user_limit_w=150.0),
    "media errors from before us": with_drive(media_errors=7),
    "a clock that counts no errors": replace(whole(), links=(PcieLink("gpu/0", "0000:03:00.0", aer=Aer(50, 3, 1)),)),
    "an old entry of the log": replace(
        whole(), bmc=replace(whole().bmc, events=(SelEntry(5, "", "PSU1 Status", "Power Supply AC lost"),))
    ),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_is_no_warning(name: str) -> None:
    assert Judged().run(STATES[name], 20).raised() == {}


TROUBLES: list[tuple[Snapshot, str, str, str]] = [
    (with_card(3, state=GpuState.GONE), "gpu.count", "crit", "gone from the bus"),
    (with_card(1, junction_c=106.0), "gpu.temp.junction", "crit", "106 °C"),
    (with_card(1, junction_c=96.0, junction_crit_c=110.0), "gpu.temp.junction", "warn", "96 °C"),
    (with_card(1, edge_c=86.0), "gpu.temp.core", "warn", "86 °C"),
    (with_card(1, memory_c=104.0), "gpu.temp.mem", "crit", "104 °C"),
    (with_card(1, fan_rpm=0.0, edge_c=70.0), "gpu.fan", "crit", "0 rpm at 70 °C"),
    (with_card(1, vbios="113-A"), "gpu.same", "ok", ""),
    (with_card(3, state=GpuState.USERSPACE, driver="tinygrad"), "gpu.userspace", "warn", "without a limit"),
    (with_card(4, busy_pct=90.0, link_width=8), "pcie.link", "crit", "PCIe x8 of x16"),
    (with_card(4, busy_pct=90.0, link_gts=8.0), "pcie.link", "warn", "8 of 16 GT/s"),
    (with_card(0, ecc=Ecc(has_remap_failed=True)), "gpu.ecc", "crit", "remapped"),
    (with_card(0, ecc=Ecc(is_remap_pending=True)), "gpu.ecc", "warn", "remapped"),
    (replace(with_card(0, vram_used_bytes=2 * 10**9), holders=()), "gpu.vram_leak", "warn", "2000 MB"),
    (replace(whole(), holders=(Holder(7, "train", "D", ("gpu/0",)),)), "gpu.procs_zombie", "warn", "train (7)"),
    (
        replace(whole(), links=(PcieLink("gpu/0", "0000:03:00.0", bar_bytes=2**28),)),
        *("pcie.rebar", "warn", "256 of"),
    ),
    (replace(whole(), cpu=replace(whole().cpu, temp_c=86.0)), "cpu.temp", "warn", "86 °C"),
    (replace(whole(), cpu=replace(whole().cpu, temp_c=95.0)), "cpu.temp", "crit", "95 °C"),
    (replace(whole(), cpu=Cpu("cpu", 1.0, 60.0, 40.0, 32, 1, 96 * 2**30)), "mem.size", "crit", "96 GiB of 128"),
    (replace(whole(), cpu=replace(whole().cpu, cores=24)), "cpu.cores", "crit", "24 of 32"),
    (with_drive(critical_warning=4), "nvme.smart", "crit", "degraded"),
    (with_drive(critical_warning=2), "nvme.smart", "warn", "temperature"),
    (with_drive(used_pct=85.0), "nvme.wear", "warn", "85 % used"),
    (with_drive(spare_pct=9.0), "nvme.wear", "crit", "9 % spare"),
    (with_drive(spare_pct=0.0, spare_least_pct=0.0), "nvme.wear", "ok", ""),  # QEMU's drives, for one: they do not say
    (with_drive(temp_c=82.0, warn_c=81.0, crit_c=85.0), "nvme.temp", "warn", "82 °C"),
    (with_drive(link_width=2), "nvme.count_link", "warn", "x2"),
    (replace(whole(), drives=whole().drives[:3]), "nvme.count_link", "crit", "3 of 4"),
    (
        replace(whole(), raid=Raid("raid0", "clean", "/raid", ("nvme0n1", "nvme1n1", "nvme2n1", "nvme7n1"))),
        *("nvme.count_link", "crit", "gone, and the array is made of it"),
    ),
    (replace(whole(), raid=None), "md.state", "crit", "no array"),
    (replace(whole(), raid=Raid("raid0", "failed")), "md.state", "crit", "failed"),
    (replace(whole(), raid=Raid("raid0", "clean", None)), "raid.mount", "crit", "not mounted"),
    (replace(whole(), system=System(filesystems=(Filesystem("/", 100, 5, False),))), "fs.space", "warn", "5 % free"),
    (replace(whole(), system=System(filesystems=(Filesystem("/", 100, 50, True),))), "fs.ro", "crit", "read-only"),
    (replace(whole(), faults=(Fault("bmc", "no answer"),)), "bmc.reach", "warn", "no answer"),
    (replace(whole(), bmc=Bmc(troubled=(BmcSensor("CPU TEMP", "cr", "95 °C"),))), "bmc.sensors", "crit", "CPU TEMP"),
    (replace(whole(), bmc=Bmc(events=(), log_used_pct=95.0)), "bmc.sel", "warn", "95 % full"),
    (replace(whole(), fans=(replace(whole().fans[0], rpm=0.0), *whole().fans[1:])), "case.fan", "crit", "stands"),
    (replace(whole(), psus=(Psu("psu/0", 240.0, 120.0), Psu("psu/1", 0.0, 0.0))), "psu.redundancy", "crit", "psu/1"),
    (replace(whole(), faults=(Fault("psu/1", "in_w unreadable"),)), "psu.read", "warn", "in_w unreadable"),
    (replace(whole(), bmc=Bmc(inlet_c=41.0)), "room.inlet", "warn", "41 °C"),
    (replace(whole(), nics=(Nic("nic/eth0", is_up=False),)), "nic.link", "warn", "no port"),
    (replace(whole(), system=System(unclean_boots=3)), "host.boots", "warn", "3 of the last"),
    (replace(whole(), system=System(is_clock_synced=False)), "host.clock", "warn", "not synchronised"),
    (replace(whole(), system=System(failed_units=("a.service",))), "host.services", "warn", "a.service"),
    (replace(whole(), wedged=(Wedged("0000:43:00.0", ("bus-reset",), 0.0),)), "gpu.wedged", "crit", "gpu/2"),
    (with_card(2, power_w=None, edge_c=None, junction_c=None, busy_pct=None), "gpu.driver_bound", "crit", "gpu/2"),
]


@pytest.mark.parametrize(
    ("snapshot", "check", "status", "words"), TROUBLES, ids=lambda one: one if isinstance(one, str) else ""
)
def test_a_trouble_is_told_with_its_evidence(snapshot: Snapshot, check: str, status: str, words: str) -> None:
    finding = look(snapshot)[check]
    assert (finding.status, words in finding.evidence) == (status, True), finding
    if finding.is_raised:
        assert finding.advice and finding.limit and finding.since_unix_s is not None and finding.devices


def test_the_devices_own_limits_come_before_those_of_the_box() -> None:
    assert "gpu.temp.junction" in raised(with_card(0, junction_c=91.0, junction_crit_c=95.0))
    assert "gpu.temp.junction" not in raised(with_card(0, junction_c=91.0))
    assert look(with_card(0, GREEN, edge_c=88.0, margin_c=3.0), GREEN)["gpu.temp.core"].status is Status.WARN
    assert look(with_card(0, GREEN, edge_c=88.0, margin_c=12.0), GREEN)["gpu.temp.core"].status is Status.OK


LINES = [
    ("NVRM: Xid (PCI:0000:43:00): 79, pid=1, GPU has fallen off the bus.", GREEN, "gpu.xid", "crit", "cut the power"),
    ("NVRM: Xid (PCI:0000:43:00): 13, pid=9, Graphics Exception", GREEN, "gpu.xid", "warn", "restart the job"),
    ("NVRM: Xid (PCI:0000:43:00): 9999999999, odd", GREEN, "gpu.xid", "warn", "restart the job"),
    (
        "amdgpu 0000:43:00.0: amdgpu: ring gfx_0.0.0 timeout, signaled seq=1",
        RED,
        "gpu.amd.hang",
        "warn",
        "restart the job",
    ),
    ("amdgpu 0000:43:00.0: amdgpu: VRAM is lost due to GPU reset!", RED, "gpu.amd.hang", "crit", "restart the job"),
    ("amdgpu 0000:43:00.0: amdgpu: GPU reset(1) failed", RED, "gpu.amd.hang", "crit", "reboot"),
    ("amdgpu: MES failed to respond to msg=3", RED, "gpu.amd.hang", "crit", "reboot"),
    ("mce: [Hardware Error]: event severity: fatal", RED, "cpu.mce", "crit", "replace"),
    ("Kernel panic - not syncing", RED, "host.kmsg", "crit", "reboot"),
    ("INFO: task train:1 blocked for more than 120 seconds.", RED, "host.kmsg", "warn", ""),
    ("EXT4-fs (x): Remounting filesystem read-only", RED, "fs.ro", "crit", ""),
]


@pytest.mark.parametrize(
    ("text", "box", "check", "status", "advice"), LINES, ids=lambda one: one if isinstance(one, str) else ""
)
def test_the_kernels_words_are_understood(text: str, box: Box, check: str, status: str, advice: str) -> None:
    finding = look(replace(whole(box), kernel=(KernelLine(1.0, 3, text),)), box)[check]
    assert (finding.status, advice in finding.advice) == (status, True), finding
    if "0000:43:00" in text:
        assert finding.devices == ("gpu/2",)


NONSENSE = st.one_of(
    st.none(), st.sampled_from([0.0, -1.0, 1e18, -1e18, math.inf, 65535.0]), st.floats(allow_nan=False)
)


@st.composite
def odd(draw: st.DrawFn, thing: typing.Any) -> typing.Any:
    """The same thing with any of its figures gone or absurd."""
    changes: dict[str, typing.Any] = {}
    for name, hint in typing.get_type_hints(type(thing)).items():
        options = typing.get_args(hint)
        if options and options[-1] is type(None) and draw(st.booleans()):
            value = draw(NONSENSE)
            if value is None or options[0] is float:
                changes[name] = value
            elif options[0] is int and math.isfinite(value):
                changes[name] = int(value)
    return replace(thing, **changes)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """A box of which nothing can be relied upon."""
    plain = whole()
    texts = st.sampled_from(
        ["", "NVRM: Xid (PCI:", "amdgpu ring x timeout", "\x00" * 9, "nvme nvme0: I/O 1 timeout, reset controller"]
    )
    return replace(
        plain,
        time_s=draw(st.floats(-1e6, 1e9)),
        gpus=tuple(
            replace(draw(odd(gpu)), state=draw(st.sampled_from(GpuState)), ecc=draw(st.sampled_from([None, Ecc()])))
            for gpu in plain.gpus[: draw(st.integers(0, 6))]
        ),
        cpu=draw(odd(plain.cpu)),
        fans=tuple(draw(odd(fan)) for fan in plain.fans),
        psus=tuple(draw(odd(psu)) for psu in plain.psus),
        bmc=draw(odd(plain.bmc)),
        drives=tuple(draw(odd(drive)) for drive in plain.drives),
        raid=draw(st.one_of(st.none(), odd(plain.raid))),
        links=(draw(odd(PcieLink("gpu/0", "0000:03:00.0", aer=Aer(), port_aer=Aer(1, 1, 1)))),),
        nics=(draw(odd(Nic("nic/0"))),),
        system=replace(draw(odd(System())), filesystems=(Filesystem("/", draw(st.integers(-1, 1)), 0, False),)),
        kernel=tuple(KernelLine(0.0, 3, draw(texts)) for _ in range(draw(st.integers(0, 3)))),
        faults=(Fault(draw(st.sampled_from(["gpu/0", "bmc", "x"])), draw(texts), is_refusal=draw(st.booleans())),),
        slow_time_s=draw(st.one_of(st.none(), st.just(0.0))),
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(snapshots(), min_size=1, max_size=4))
def test_nothing_that_can_be_read_keeps_a_check_from_answering(seen: list[Snapshot]) -> None:
    memory = HealthMemory()
    for snapshot in seen:
        findings, memory = judge(snapshot, RED, Config(), memory)
        assert [finding.id for finding in findings] == [check.id for check in CHECKS]
        for finding in findings:
            assert finding.status in Status and isinstance(dataclasses.asdict(finding), dict)
            assert finding.status is not Status.WARN or finding.troubles
