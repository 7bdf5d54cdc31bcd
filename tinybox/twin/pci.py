"""What the kernel says of any PCI function, whatever its driver: the files that lspci and udev look for."""

import struct
from dataclasses import dataclass

RESOURCES = 13  # DEVICE_COUNT_RESOURCE of a kernel with SR-IOV: six BARs, the ROM, virtual functions' BARs


@dataclass(frozen=True, slots=True)
class Function:
    """One function: `pci_id` and `subsystem_id` are `vendor:device`, `class_code` is class, subclass, interface."""

    address: str
    pci_id: str
    class_code: str
    driver: str
    subsystem_id: str = "0000:0000"
    revision: int = 0

    def files(self) -> dict[str, str | int]:
        """The name and the content of each file of text."""
        vendor, device, sub_vendor, sub_device = self._ids()
        uevent = {
            "DRIVER": self.driver,
            "PCI_CLASS": f"{int(self.class_code, 16):04X}",
            "PCI_ID": self.pci_id.upper(),
            "PCI_SUBSYS_ID": self.subsystem_id.upper(),
            "PCI_SLOT_NAME": self.address,
            "MODALIAS": self._modalias(),
        }
        return {
            "vendor": f"0x{vendor}",
            "device": f"0x{device}",
            "class": f"0x{self.class_code}",
            "revision": f"0x{self.revision:02x}",
            "subsystem_vendor": f"0x{sub_vendor}",
            "subsystem_device": f"0x{sub_device}",
            "uevent": "\n".join(f"{key}={value}" for key, value in uevent.items()),
            "modalias": self._modalias(),
            "irq": 0,
            "resource": "\n".join(["0x0000000000000000 0x0000000000000000 0x0000000000000000"] * RESOURCES),
        }

    def config(self) -> str:
        """The header of configuration space, type 0 (PCI Local Bus 3.0, 6.1); bytes beyond text are surrogates."""
        vendor, device, sub_vendor, sub_device = (int(part, 16) for part in self._ids())
        kind = int(self.class_code, 16) << 8 | self.revision
        header = struct.pack("<2H4xI32x2H16x", vendor, device, kind, sub_vendor, sub_device)
        return header.decode(errors="surrogateescape")

    def _modalias(self) -> str:
        vendor, device, sub_vendor, sub_device = (part.upper() for part in self._ids())
        base, sub, interface = (self.class_code[i : i + 2].upper() for i in (0, 2, 4))
        return f"pci:v0000{vendor}d0000{device}sv0000{sub_vendor}sd0000{sub_device}bc{base}sc{sub}i{interface}"

    def _ids(self) -> list[str]:
        return f"{self.pci_id}:{self.subsystem_id}".split(":")
