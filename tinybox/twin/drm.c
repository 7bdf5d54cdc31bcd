/* Stand-ins for libdrm.so.2 and, with -DAMDGPU, libdrm_amdgpu.so.1: what sysfs says of the twin's cards, for programs
 * that would ask their kernel driver. Every answer is a file below /sys/class/drm/NODE; a card is known by its node's
 * name in /dev/dri. No file is a feature that the card lacks.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xf86drm.h>
#ifdef AMDGPU
#include <amdgpu.h>
#include <amdgpu_drm.h>
#endif

#define NODES "/sys/class/drm/"
#define NAME 64

/* The number in FILE below the node's device. */
static int number_of(const char *node, const char *file, uint64_t *value)
{
    char path[PATH_MAX], text[NAME], *end;
    FILE *from;
    int found;
    snprintf(path, sizeof path, NODES "%s/device/%s", node, file);
    if (!(from = fopen(path, "re")))
        return -errno;
    found = fgets(text, sizeof text, from) != NULL;
    fclose(from);
    if (!found)
        return -EIO;
    *value = strtoull(text, &end, 0);
    return end == text ? -EIO : 0;
}

/* The name in /dev/dri behind a descriptor. */
static int node_of(int fd, char *name)
{
    char link[NAME], path[PATH_MAX];
    ssize_t length;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if ((length = readlink(link, path, sizeof path - 1)) < 0)
        return -errno;
    path[length] = 0;
    if (strncmp(path, "/dev/dri/", 9) || strlen(path + 9) >= NAME)
        return -ENODEV;
    strcpy(name, path + 9);
    return 0;
}

#ifndef AMDGPU

/* The last part of a link below the node. */
static int link_of(const char *node, const char *name, char *last)
{
    char path[PATH_MAX], target[PATH_MAX];
    const char *slash;
    snprintf(path, sizeof path, NODES "%s/%s", node, name);
    if (!realpath(path, target) || !(slash = strrchr(target, '/')) || strlen(slash) > NAME)
        return -ENODEV;
    strcpy(last, slash + 1);
    return 0;
}

static char *node_path(const char *format, int number)
{
    char *path;
    return asprintf(&path, format, number) < 0 ? NULL : path;
}

static drmDevicePtr device_of(const char *render)
{
    unsigned domain, bus, slot, function;
    char address[NAME];
    int minor = atoi(render + strlen("renderD"));
    uint64_t vendor, device, subvendor = 0, subdevice = 0, revision = 0;
    drmDevicePtr made;
    if (link_of(render, "device", address) || sscanf(address, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
        return NULL;
    if (number_of(render, "vendor", &vendor) || number_of(render, "device", &device))
        return NULL;
    number_of(render, "subsystem_vendor", &subvendor);
    number_of(render, "subsystem_device", &subdevice);
    number_of(render, "revision", &revision);
    if (!(made = calloc(1, sizeof *made)))
        return NULL;
    made->nodes = calloc(DRM_NODE_MAX, sizeof *made->nodes);
    made->businfo.pci = calloc(1, sizeof *made->businfo.pci);
    made->deviceinfo.pci = calloc(1, sizeof *made->deviceinfo.pci);
    if (!made->nodes || !made->businfo.pci || !made->deviceinfo.pci) {
        drmFreeDevices(&made, 1);
        return NULL;
    }
    made->nodes[DRM_NODE_PRIMARY] = node_path("/dev/dri/card%d", minor - 128);
    made->nodes[DRM_NODE_RENDER] = node_path("/dev/dri/renderD%d", minor);
    made->available_nodes = 1 << DRM_NODE_PRIMARY | 1 << DRM_NODE_RENDER;
    made->bustype = DRM_BUS_PCI;
    *made->businfo.pci = (drmPciBusInfo){domain, bus, slot, function};
    *made->deviceinfo.pci = (drmPciDeviceInfo){vendor, device, subvendor, subdevice, revision};
    return made;
}

static int is_render(const struct dirent *entry)
{
    return !strncmp(entry->d_name, "renderD", 7);
}

int drmGetDevices2(uint32_t flags, drmDevicePtr devices[], int most)
{
    struct dirent **entries;
    int found = scandir(NODES, &entries, is_render, versionsort), count = 0;
    (void)flags;
    if (found < 0)
        return -errno;
    for (int i = 0; i < found; i++) {
        drmDevicePtr device = device_of(entries[i]->d_name);
        free(entries[i]);
        if (!device)
            continue;
        if (devices && count < most)
            devices[count] = device;
        else
            drmFreeDevices(&device, 1);
        count++;
    }
    free(entries);
    return devices && count > most ? most : count;
}

int drmGetDevices(drmDevicePtr devices[], int most)
{
    return drmGetDevices2(0, devices, most);
}

void drmFreeDevices(drmDevicePtr devices[], int count)
{
    for (int i = 0; i < count; i++) {
        if (!devices[i])
            continue;
        for (int node = 0; devices[i]->nodes && node < DRM_NODE_MAX; node++)
            free(devices[i]->nodes[node]);
        free(devices[i]->nodes);
        free(devices[i]->businfo.pci);
        free(devices[i]->deviceinfo.pci);
        free(devices[i]);
        devices[i] = NULL;
    }
}

drmVersionPtr drmGetVersion(int fd)
{
    char node[NAME], driver[NAME];
    drmVersionPtr made;
    if (node_of(fd, node) || link_of(node, "device/driver", driver) || !(made = calloc(1, sizeof *made)))
        return NULL;
    made->version_major = 3;
    made->version_minor = 57;
    made->name = strdup(driver);
    made->name_len = made->name ? strlen(driver) : 0;
    made->date = strdup("");
    made->desc = strdup("a card of the twin");
    return made;
}

void drmFreeVersion(drmVersionPtr version)
{
    if (!version)
        return;
    free(version->name);
    free(version->date);
    free(version->desc);
    free(version);
}

int drmGetMagic(int fd, drm_magic_t *magic)
{
    (void)fd;
    *magic = 1;
    return 0;
}

int drmAuthMagic(int fd, drm_magic_t magic)
{
    (void)fd, (void)magic;
    return 0;
}

int drmDropMaster(int fd)
{
    (void)fd;
    return 0;
}

int drmIoctl(int fd, unsigned long request, void *argument)
{
    (void)fd, (void)request, (void)argument;
    errno = ENOTTY;
    return -1;
}

int drmCommandWriteRead(int fd, unsigned long index, void *data, unsigned long size)
{
    (void)fd, (void)index, (void)data, (void)size;
    return -ENOTTY;
}

#else

struct amdgpu_device {
    char node[NAME], sensors[NAME];
};

static int is_sensors(const struct dirent *entry)
{
    return !strncmp(entry->d_name, "hwmon", 5) && strcmp(entry->d_name, "hwmon");
}

int amdgpu_device_initialize(int fd, uint32_t *major, uint32_t *minor, amdgpu_device_handle *handle)
{
    char path[PATH_MAX];
    struct dirent **entries;
    struct amdgpu_device *made;
    int failed, found;
    if (!(made = calloc(1, sizeof *made)))
        return -ENOMEM;
    if ((failed = node_of(fd, made->node))) {
        free(made);
        return failed;
    }
    snprintf(path, sizeof path, NODES "%s/device/hwmon", made->node);
    if ((found = scandir(path, &entries, is_sensors, versionsort)) >= 0) {
        for (int i = 0; i < found; i++) {
            snprintf(made->sensors, sizeof made->sensors, "hwmon/%.40s", entries[i]->d_name);
            free(entries[i]);
        }
        free(entries);
    }
    *major = 3;
    *minor = 57;
    *handle = made;
    return 0;
}

int amdgpu_device_deinitialize(amdgpu_device_handle card)
{
    free(card);
    return 0;
}

const char *amdgpu_get_marketing_name(amdgpu_device_handle card)
{
    uint64_t device = 0;
    number_of(card->node, "device", &device);
    return device == 0x744c ? "AMD Radeon RX 7900 XTX" : "AMD Radeon";
}

int amdgpu_query_gpu_info(amdgpu_device_handle card, struct amdgpu_gpu_info *info)
{
    uint64_t device;
    int failed = number_of(card->node, "device", &device);
    if (failed)
        return failed;
    memset(info, 0, sizeof *info);
    info->asic_id = device;
    return 0;
}

/* A file of the card's sensors, in units of `unit`. */
static int sensor(amdgpu_device_handle card, const char *name, uint64_t unit, uint32_t *value)
{
    char file[2 * NAME];
    uint64_t found;
    int failed;
    snprintf(file, sizeof file, "%s/%s", card->sensors, name);
    if ((failed = number_of(card->node, file, &found)))
        return failed;
    *value = found / unit;
    return 0;
}

int amdgpu_query_sensor_info(amdgpu_device_handle card, unsigned type, unsigned size, void *value)
{
    uint64_t busy;
    int failed;
    if (size < sizeof(uint32_t))
        return -EINVAL;
    switch (type) {
    case AMDGPU_INFO_SENSOR_GFX_SCLK: return sensor(card, "freq1_input", 1000000, value);
    case AMDGPU_INFO_SENSOR_GFX_MCLK: return sensor(card, "freq2_input", 1000000, value);
    case AMDGPU_INFO_SENSOR_GPU_TEMP: return sensor(card, "temp1_input", 1, value);
    case AMDGPU_INFO_SENSOR_GPU_AVG_POWER: return sensor(card, "power1_average", 1000000, value);
    case AMDGPU_INFO_SENSOR_GPU_LOAD:
        if (!(failed = number_of(card->node, "gpu_busy_percent", &busy)))
            *(uint32_t *)value = busy;
        return failed;
    default: return -EINVAL;
    }
}

int amdgpu_query_info(amdgpu_device_handle card, unsigned id, unsigned size, void *value)
{
    uint64_t total, used;
    int failed;
    memset(value, 0, size);
    if ((failed = number_of(card->node, "mem_info_vram_total", &total)))
        return failed;
    if ((failed = number_of(card->node, "mem_info_vram_used", &used)))
        return failed;
    if (id == AMDGPU_INFO_MEMORY && size >= sizeof(struct drm_amdgpu_memory_info)) {
        struct drm_amdgpu_memory_info *memory = value;
        memory->vram.total_heap_size = memory->vram.usable_heap_size = total;
        memory->vram.heap_usage = used;
    } else if (id == AMDGPU_INFO_VRAM_GTT && size >= sizeof(struct drm_amdgpu_info_vram_gtt)) {
        ((struct drm_amdgpu_info_vram_gtt *)value)->vram_size = total;
    } else if (id == AMDGPU_INFO_VRAM_USAGE && size >= sizeof used) {
        memcpy(value, &used, sizeof used);
    } else {
        return -EINVAL;
    }
    return 0;
}

int amdgpu_query_hw_ip_info(amdgpu_device_handle card, unsigned type, unsigned instance, struct drm_amdgpu_info_hw_ip *info)
{
    (void)card, (void)type, (void)instance;
    memset(info, 0, sizeof *info);
    return -EINVAL;
}

#endif
