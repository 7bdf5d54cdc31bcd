"""A plant as the drivers would read it, and actions as they would write them, without the files between."""

from dataclasses import replace

from tinybox.core.actions import Action, EndWork, FreezeWork, PowerOff, SetCap, SetClockLimit, SetCpuCap
from tinybox.core.snapshot import Bmc, Cpu, Fan, Fault, Gpu, GpuState, Psu, Raid, Snapshot
from tinybox.twin.plant import Plant

BMC_PERIOD_S = 2.0
START_UNIX_S = 1.75e9


class Instruments:
    """Reads and writes one plant. `refuses` are cards whose limits cannot be written."""

    def __init__(self, plant: Plant) -> None:
        self.plant = plant
        self.refuses: set[str] = set()
        self.failsafe_age_s: float | None = 0.05
        self.writes = [0] * len(plant.gpus)
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
            self._bmc = Bmc("bmc", plant.bmc_reading_w(), plant.volt_reading, plant.inlet_c, plant.cpu_c)
        share_a = plant.line_a / plant.wall_w if plant.wall_w > 0 else 0.0
        return Snapshot(
            time_s=now_s,
            unix_s=START_UNIX_S + now_s,
            gpus=tuple(self._gpu(index) for index in range(len(plant.gpus))),
            cpu=self._cpu(now_s),
            fans=tuple(Fan(f"fan/chassis{i + 1}", rpm) for i, rpm in enumerate(plant.chassis_rpm)),
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
            case SetCap(device, cap_w):
                index = int(device.partition("/")[2])
                plant.gpus[index].cap_w = cap_w
                self.writes[index] += 1
            case SetClockLimit(device, clock_mhz):
                index = int(device.partition("/")[2])
                plant.gpus[index].clock_limit_mhz = clock_mhz
                self.writes[index] += 1
            case SetCpuCap(cap_w):
                plant.cpu_cap_w = cap_w
            case FreezeWork(is_frozen):
                self.is_frozen = is_frozen
                for gpu in plant.gpus:
                    gpu.is_frozen = is_frozen
            case EndWork():
                for gpu in plant.gpus:
                    gpu.is_frozen = True  # its work is over: nothing of the trace goes on
            case PowerOff():
                plant.power_off()

    def _constants(self, index: int) -> Gpu:
        box = self.plant.box.gpu
        return Gpu(
            id=f"gpu/{index}",
            state=GpuState.AWAKE,
            pci=box.slots[index],
            vendor=box.vendor,
            name=box.name,
            cap_min_w=box.cap_min_w,
            cap_max_w=box.cap_max_w,
            cap_default_w=box.cap_default_w,
            has_clock_lever=box.overdrive,
            clock_limit_min_mhz=box.clock_min_mhz,
            memory_c=60.0,
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
            junction_c=gpu.junction_c,
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
