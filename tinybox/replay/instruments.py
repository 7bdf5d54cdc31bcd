"""A plant as the drivers would read it, and actions as they would write them, without the files between."""

import math
from dataclasses import replace

from tinybox.core.actions import (
    Action,
    CardAction,
    EndWork,
    FreezeWork,
    LimitGpuFan,
    PowerOff,
    ReleaseFans,
    SetCap,
    SetClockLimit,
    SetCpuCap,
    SetFanDuty,
)
from tinybox.core.snapshot import Bmc, Cpu, Fan, FanLever, Fault, Gpu, GpuState, Psu, Raid, Snapshot
from tinybox.twin.gpu import GpuPart
from tinybox.twin.plant import Plant

BMC_PERIOD_S = 2.0
LEVERS = {"amd": FanLever.LIMIT, "nvidia": FanLever.SPEED}
LEAST_SHARES = {"amd": 0.16, "nvidia": 0.3, "intel": 0.2}  # of a fan's speed, the least that each vendor's driver takes
START_UNIX_S = 1.75e9


class Instruments:
    """Reads and writes one plant. `refuses` are cards whose limits cannot be written."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.refuses: set[str] = set()
        self.failsafe_age_s: float | None = 0.05
        self.writes = [0] * len(plant.gpus)
        self.fan_writes = [0] * len(plant.gpus)
        self.is_frozen = False
        self._energy_uj: float | None = None
        self._energy_s = 0.0
        self._bmc = Bmc()
        self._bmc_s = -BMC_PERIOD_S
        self._still = [self._constants(index) for index in range(len(plant.gpus))]

    def read(self) -> Snapshot:
        """Everything as of now; the BMC as of its last round."""
        plant, now_s = self.plant, self.plant.time_s
        if now_s - self._bmc_s >= BMC_PERIOD_S:
            self._bmc_s = now_s
            control = "automatic" if plant.chassis_duty is None else "ours"
            self._bmc = Bmc(
                *("bmc", plant.bmc_reading_w(), plant.volt_reading, plant.inlet_c, plant.cpu_c), fan_control=control
            )
        share_a = plant.line_a / plant.wall_w if plant.wall_w > 0 else 0.0
        return Snapshot(
            time_s=now_s,
            unix_s=START_UNIX_S + now_s,
            gpus=tuple(self._gpu(index) for index in range(len(plant.gpus))),
            cpu=self._cpu(now_s),
            fans=tuple(
                Fan(f"fan/chassis{i + 1}", rpm, 100 * plant.fan_share) for i, rpm in enumerate(plant.chassis_rpm)
            ),
            psus=tuple(
                Psu(f"psu/{i}", watts, plant.volt_reading, watts * share_a, plant.psu_out_w[i], 40.0)
                for i, watts in enumerate(plant.psu_meter_w)
            ),
            bmc=self._bmc,
            raid=Raid("raid0", "clean", plant.box.storage.mount),
            slow_time_s=self._bmc_s,
            failsafe_age_s=self.failsafe_age_s,
            is_work_frozen=self.is_frozen,
        )

    def apply(self, actions: tuple[Action, ...]) -> tuple[Fault, ...]:
        """Write; the faults of what was refused."""
        faults = []
        for action in actions:
            if action.device in self.refuses:
                faults.append(Fault(action.device, "the card refused a limit"))
                continue
            self._apply(action)
        return tuple(faults)

    def _apply(self, action: Action) -> None:
        plant = self.plant
        match action:
            case SetCap() | SetClockLimit() | LimitGpuFan():
                self._to_card(int(action.device.partition("/")[2]), action)
            case SetCpuCap(cap_w):
                plant.cpu_cap_w = cap_w
            case SetFanDuty() | ReleaseFans():
                plant.chassis_duty = action.duty_pct / 100 if isinstance(action, SetFanDuty) else None
            case FreezeWork(is_frozen):
                self.is_frozen = is_frozen
                for gpu in plant.gpus:
                    gpu.is_frozen = is_frozen
            case EndWork():
                for gpu in plant.gpus:
                    gpu.is_frozen = True  # its work is over: nothing of the trace goes on
            case PowerOff():
                plant.power_off()

    def _to_card(self, index: int, action: CardAction) -> None:
        if isinstance(action, LimitGpuFan):
            self._limit_fan(index, action.rpm)
            return
        self.writes[index] += 1
        if isinstance(action, SetCap):
            self.plant.gpus[index].cap_w = action.cap_w
        else:
            self.plant.gpus[index].clock_limit_mhz = action.clock_mhz

    def _limit_fan(self, index: int, rpm: float | None) -> None:
        gpu = self.plant.gpus[index]
        if self._still[index].fan_lever is FanLever.SPEED:
            gpu.fan_share = None if rpm is None else rpm / gpu.silicon.box.fan_max_rpm
        else:
            gpu.fan_most_rpm = math.inf if rpm is None else rpm
        self.fan_writes[index] += 1

    def _constants(self, index: int) -> Gpu:
        box = self.plant.box.kinds[index]
        return Gpu(
            id=f"gpu/{index}",
            state=GpuState.AWAKE,
            pci=self.plant.box.slots[index],
            vendor=box.vendor,
            name=box.name,
            cap_min_w=box.cap_min_w,
            cap_max_w=box.cap_max_w,
            cap_default_w=box.cap_default_w,
            has_clock_lever=box.overdrive,
            clock_limit_min_mhz=box.clock_min_mhz,
            fan_lever=LEVERS.get(box.vendor),
            fan_limit_min_rpm=LEAST_SHARES[box.vendor] * box.fan_max_rpm,
            vram_used_bytes=0,
            vram_total_bytes=box.vram_bytes,
            link_width=box.link_width,
            link_gts=box.link_gts,
        )

    def _gpu(self, index: int) -> Gpu:
        gpu, still = self.plant.gpus[index], self._still[index]
        if not gpu.is_present:
            return Gpu(still.id, GpuState.GONE, still.pci, still.vendor)
        return replace(
            still,
            power_w=gpu.sensor_w,
            cap_w=gpu.cap_w,
            clock_limit_mhz=int(gpu.clock_limit_mhz),
            clock_mhz=int(gpu.clock_mhz),
            edge_c=gpu.edge_c,
            junction_c=None if still.vendor == "nvidia" else gpu.junction_c,
            memory_c=None if still.vendor == "nvidia" else gpu.memory_c,
            fan_limit_rpm=_fan_limit_rpm(gpu),
            fan_rpm=gpu.fan_rpm,
            busy_pct=100.0 * gpu.busy_sensor,
        )

    def _cpu(self, now_s: float) -> Cpu:
        plant, kind = self.plant, self.plant.box.cpu
        power_w = None
        if self._energy_uj is not None and now_s > self._energy_s:
            gained_uj = (plant.cpu_energy_uj - self._energy_uj) % (plant.kind.cpu.energy_range_uj + 1)
            power_w = gained_uj / 1e6 / (now_s - self._energy_s)
        self._energy_uj, self._energy_s = plant.cpu_energy_uj, now_s
        return Cpu("cpu", 100.0 * plant.cpu_load, power_w, plant.cpu_c, kind.cores, 0, kind.memory_bytes)


def _fan_limit_rpm(gpu: GpuPart) -> float | None:
    if gpu.fan_share is not None:
        return gpu.fan_share * gpu.silicon.box.fan_max_rpm
    return gpu.fan_most_rpm if gpu.fan_most_rpm < math.inf else None
