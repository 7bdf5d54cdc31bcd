"""The engine of health: troubles that last, rates, baselines, the ladder, and what it tells."""

from collections.abc import Callable
from dataclasses import replace

from tests.policy.judged import GREEN, IDS, RED, Judged, look, raised, whole, with_card, with_drive
from tinybox.core.config import BmcConfig, Config, ThermalConfig
from tinybox.core.health import Status
from tinybox.core.snapshot import (
    Bmc,
    Fault,
    GpuState,
    KernelLine,
    PcieLink,
    Raid,
    SelEntry,
    Severity,
    Snapshot,
)
from tinybox.policy.checks.check import Asked
from tinybox.policy.checks.registry import CHECKS
from tinybox.policy.health import HealthMemory, alerts_of, judge


def test_what_comes_back_goes_up_the_ladder() -> None:
    judged, line = Judged(), KernelLine(1.0, 3, "amdgpu 0000:43:00.0: amdgpu: ring gfx_0.0.0 timeout")
    seen = []
    for _ in range(6):
        judged.run(replace(whole(), kernel=(line,)), 2)
        seen.append(judged.finding("gpu.amd.hang").advice)
        judged.run(whole(), 6)
    assert "restart the job" in seen[0] and "restart the job" in seen[1]
    assert "reset the card" in seen[2] and "raised 3 times" in seen[2]
    assert "reboot" in seen[4]


def test_a_spike_of_the_processors_temperature_is_harmless_and_heat_that_lasts_is_not() -> None:
    hot = replace(whole(), cpu=replace(whole().cpu, temp_c=95.0))
    judged = Judged().run(whole(), 5).run(hot, 15)
    assert judged.status("cpu.temp") is Status.OK
    judged.run(whole(), 5).run(hot, 15)
    assert judged.status("cpu.temp") is Status.OK, "time apart does not add up"
    assert judged.run(hot, 10).status("cpu.temp") is Status.CRIT


def test_what_is_raised_keeps_its_since_and_goes_when_it_is_over() -> None:
    hot = with_card(1, junction_c=97.0)
    judged = Judged().run(whole(), 5).run(hot, 10)
    since = judged.finding("gpu.temp.junction").since_unix_s
    worse = with_card(1, junction_c=107.0)
    assert judged.run(worse, 10).finding("gpu.temp.junction").since_unix_s == since
    assert judged.status("gpu.temp.junction") is Status.CRIT
    assert judged.run(whole(), 2).status("gpu.temp.junction") is Status.CRIT
    assert judged.run(whole(), 3).status("gpu.temp.junction") is Status.OK


def test_counters_are_judged_by_their_rise_and_forgotten_after_their_window() -> None:
    def counting(rate: float) -> Callable[[Snapshot, int], Snapshot]:
        def change(snapshot: Snapshot, second: int) -> Snapshot:
            link = PcieLink("gpu/0", "0000:03:00.0", 16, 16.0, replays=int(1000 + rate * second))
            return replace(snapshot, links=(link,))

        return change

    assert Judged().run(whole(), 60, counting(0.1)).status("pcie.replay") is Status.OK
    judged = Judged().run(whole(), 60, counting(1.0))
    assert judged.status("pcie.replay") is Status.WARN
    assert Judged().run(whole(), 60, counting(10.0)).status("pcie.replay") is Status.CRIT
    assert judged.run(whole(), 70, lambda s, _: counting(0)(s, 0)).status("pcie.replay") is Status.OK


def test_media_errors_are_new_only_beyond_the_first_look() -> None:
    judged = Judged().run(with_drive(media_errors=7), 5)
    assert judged.status("nvme.media") is Status.OK
    assert judged.run(with_drive(media_errors=8), 5).status("nvme.media") is Status.WARN
    assert "tinybox raid evacuate DEST" in judged.finding("nvme.media").advice
    again = Judged(memory=HealthMemory(baseline=judged.memory.baseline)).run(with_drive(media_errors=8), 5)
    assert again.status("nvme.media") is Status.WARN, "a restart forgets nothing"


def test_a_log_entry_that_ended_is_over() -> None:
    def logged(*entries: SelEntry) -> Snapshot:
        return replace(whole(), bmc=replace(whole().bmc, events=entries))

    old = SelEntry(1, "", "Board", "System boot")
    lost = SelEntry(2, "now", "PSU2 Status", "Power Supply AC lost")
    judged = Judged().run(logged(old), 3).run(logged(old, lost), 3)
    assert judged.status("bmc.sel") is Status.CRIT
    assert judged.run(logged(old, lost, replace(lost, number=3, is_asserted=False)), 5).status("bmc.sel") is Status.OK


def test_one_card_warmer_than_its_siblings_at_equal_watts_is_an_outlier() -> None:
    gpus = tuple(replace(gpu, power_w=150.0, busy_pct=99.0, edge_c=55.0, junction_c=66.0) for gpu in whole().gpus)
    level = replace(whole(), gpus=gpus)
    assert Judged().run(level, 60).status("gpu.temp.outlier") is Status.OK
    warm = replace(level, gpus=(*gpus[:5], replace(gpus[5], junction_c=79.0)))
    judged = Judged().run(warm, 60)
    assert judged.finding("gpu.temp.outlier").devices == ("gpu/5",)
    assert judged.status("gpu.temp.outlier") is Status.WARN
    working = replace(warm, gpus=(*gpus[:5], replace(gpus[5], junction_c=79.0, power_w=250.0)))
    assert Judged().run(working, 60).status("gpu.temp.outlier") is Status.OK, "its watts explain it"


def test_a_temperature_that_stands_still_while_watts_swing_is_frozen() -> None:
    def swinging(snapshot: Snapshot, second: int) -> Snapshot:
        watts = 250.0 if second % 80 < 40 else 15.0
        gpus = tuple(
            replace(gpu, power_w=watts, edge_c=gpu.edge_c if i == 2 else 40.0 + second % 7)  # gpu/2 is stuck
            for i, gpu in enumerate(snapshot.gpus)
        )
        return replace(snapshot, gpus=tuple(replace(gpu, junction_c=None, memory_c=None) for gpu in gpus))

    judged = Judged().run(whole(), 150, swinging)
    assert judged.finding("gpu.temp.frozen").devices == ("gpu/2",)


def test_a_limit_that_somebody_else_wrote_is_told_and_one_of_ours_is_not() -> None:
    judged = Judged(asked={"gpu/1": Asked(270.0)})
    assert judged.run(with_card(1, cap_w=270.0), 10).status("gpu.power.cap") is Status.OK
    assert judged.run(with_card(1, cap_w=333.0), 10).finding("gpu.power.cap").devices == ("gpu/1",)


def test_limits_of_a_box_that_nobody_armed_are_the_owners() -> None:
    observing = replace(whole(), is_armed=False)
    changed = replace(with_card(1, cap_w=333.0), is_armed=False)
    assert Judged().run(observing, 10).run(changed, 10).raised() == {}


def test_a_refusal_is_remembered_for_a_minute() -> None:
    refused = replace(whole(), faults=(Fault("gpu/1", "the card holds a cap", is_refusal=True),))
    judged = Judged().run(refused, 1).run(whole(), 30)
    unbound = with_card(1, power_w=None, edge_c=None, junction_c=None, busy_pct=None)
    owned = with_card(1, state=GpuState.USERSPACE, user_limit_w=150.0)
    assert Judged().run(refused, 1).run(unbound, 10).run(owned, 10).raised() == {}, "its driver went: it has an owner"
    assert judged.raised() == {"gpu.limits": Status.WARN}
    assert judged.run(whole(), 40).raised() == {}


def test_a_card_that_draws_much_without_work_is_told() -> None:
    judged = Judged().run(with_card(3, power_w=80.0), 30)
    assert judged.finding("gpu.power.idle").devices == ("gpu/3",)
    assert Judged().run(with_card(3, power_w=80.0, busy_pct=60.0), 30).raised() == {}


def test_unreadable_is_unknown_and_absent_is_not_applicable() -> None:
    blind = replace(with_card(4, junction_c=None), faults=(Fault("gpu/4", "junction temperature unreadable: x"),))
    found = look(blind)
    assert found["gpu.temp.junction"].status is Status.UNKNOWN
    assert found["gpu.read"].status is Status.WARN and found["gpu.read"].devices == ("gpu/4",)
    assert look(whole(GREEN), GREEN)["gpu.amd.hang"].status is Status.NA
    assert look(whole(), config=Config(bmc=BmcConfig(interface="none")))["bmc.reach"].status is Status.NA


def test_before_the_slow_sensors_were_read_nothing_is_cleared() -> None:
    broken = replace(whole(), raid=Raid("raid0", "failed"))
    judged = Judged().run(broken, 10)
    assert judged.status("md.state") is Status.CRIT
    fresh = replace(whole(), time_s=1.0, slow_time_s=None)
    findings, memory = judge(fresh, RED, Config(), HealthMemory(raised=judged.memory.raised))
    assert next(finding for finding in findings if finding.id == "md.state").status is Status.UNKNOWN
    assert "md.state raid" in memory.raised


def test_the_owners_own_limit_of_the_room_counts() -> None:
    cool = replace(whole(), bmc=Bmc(inlet_c=31.0))
    assert raised(cool) == {}
    assert raised(cool, config=Config(thermal=ThermalConfig(room_max_c=30.0))) == {"room.inlet": "warn"}


def test_alerts_name_the_device_and_what_to_do_and_repeat_no_fault() -> None:
    found = look(replace(with_card(3, state=GpuState.GONE), faults=(Fault("bmc", "no answer"),)))
    alerts = alerts_of(found.values())
    assert [(alert.id, alert.severity) for alert in alerts] == [("gpu/3", Severity.CRITICAL)]
    assert "reseat the card in slot 4" in alerts[0].reason


def test_every_check_has_words_for_people_and_an_id_of_its_own() -> None:
    assert len(IDS) == len(CHECKS)
    for check in CHECKS:
        assert check.reads and check.limit and check.source and check.advice, check.id


def test_a_fan_that_goes_up_and_down_all_the_time_is_told_and_one_that_rises_is_not() -> None:
    def hunting(snapshot: Snapshot, second: int) -> Snapshot:
        fans = (replace(snapshot.fans[0], rpm=900.0 + 900.0 * (second // 20 % 2)), *snapshot.fans[1:])
        return replace(snapshot, fans=fans)

    def rising(snapshot: Snapshot, second: int) -> Snapshot:
        return replace(snapshot, fans=tuple(replace(fan, rpm=900.0 + second) for fan in snapshot.fans))

    assert Judged().run(whole(), 300, hunting).finding("noise.hunting").devices == ("fan/chassis1",)
    assert Judged().run(whole(), 300, rising).status("noise.hunting") is Status.OK


def test_a_silence_of_seconds_is_no_news() -> None:
    blind = replace(with_card(4, junction_c=None), faults=(Fault("gpu/4", "junction temperature unreadable: late"),))
    judged = Judged().run(whole(), 5).run(blind, 4)
    assert judged.status("gpu.temp.junction") is Status.OK
    assert judged.run(blind, 5).status("gpu.temp.junction") is Status.UNKNOWN


def test_a_link_that_was_read_before_the_work_began_is_one_at_rest() -> None:
    slow = with_card(1, link_gts=2.5, busy_pct=90.0)
    judged = Judged().run(with_card(1, link_gts=2.5), 5).run(slow, 6)
    assert judged.status("pcie.link") is Status.OK, "it may take a moment to wake"
    assert judged.run(slow, 10).finding("pcie.link").devices == ("gpu/1",)
