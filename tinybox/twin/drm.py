"""The DRM nodes of a card, whatever its driver."""

from tinybox.twin.files import Tree


def add_nodes(tree: Tree, device: str, index: int) -> str:
    """`card<index>` and its render node below the device; the folder of the first."""
    for node, minor in ((f"card{index}", index), (f"renderD{128 + index}", 128 + index)):
        folder = f"{device}/drm/{node}"
        tree.add(f"{folder}/dev", f"226:{minor}")
        tree.add(f"{folder}/uevent", f"MAJOR=226\nMINOR={minor}\nDEVNAME=dri/{node}\nDEVTYPE=drm_minor")
        tree.link(f"{folder}/device", device)
        tree.link(f"{folder}/subsystem", "/sys/class/drm")
        tree.link(f"/sys/class/drm/{node}", folder)
    return f"{device}/drm/card{index}"
