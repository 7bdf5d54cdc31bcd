/* A stand-in for NVIDIA's management library (docs/protocol/nvml.md): NVML's own names and layouts, the twin's figures.
 *
 * It is fed by files: ROOT/nvml/INDEX/KEY, ROOT from TINYBOX_ROOT, else `../root` beside our own folder. A file says a
 * number in NVML's unit or a text; `hang S` instead makes the call block for S seconds. How opening or reading fails
 * is the answer: no file is a feature that the card lacks, no folder a card that fell off the bus.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    OK = 0, UNINITIALIZED = 1, BAD_ARGUMENT = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7,
    DRIVER_NOT_LOADED = 9, TIMED_OUT = 10, FUNCTION_NOT_FOUND = 13, IS_LOST = 15, BAD_VERSION = 25, UNKNOWN = 999
};
typedef int result;
typedef struct card { char folder[512]; unsigned index; char pci[32]; } card;

#define CARDS 32
static card cards[CARDS];
static unsigned count, users;
static char root[400];

static const char *const words[][2] = {
    {"0", "Success"}, {"1", "Uninitialized"}, {"2", "Invalid Argument"}, {"3", "Not Supported"},
    {"4", "Insufficient Permissions"}, {"6", "Not Found"}, {"7", "Insufficient Size"}, {"9", "Driver Not Loaded"},
    {"10", "Timeout"}, {"13", "Function Not Found"}, {"15", "GPU is lost"}, {"25", "Argument version mismatch"},
};

static result as_result(int error, const card *gpu)
{
    struct stat found;
    switch (error) {
    case ENOENT: return gpu && stat(gpu->folder, &found) ? IS_LOST : NOT_SUPPORTED;
    case ENODEV: case ENXIO: return IS_LOST;
    case ENOSYS: return FUNCTION_NOT_FOUND;
    case EINVAL: return BAD_ARGUMENT;
    case EACCES: case EPERM: return NO_PERMISSION;
    case ENOTCONN: return DRIVER_NOT_LOADED;
    default: return UNKNOWN;
    }
}

static result say(const char *folder, const card *gpu, const char *key, char *text, size_t size)
{
    char path[640];
    int file;
    ssize_t length;
    snprintf(path, sizeof path, "%s/%s", folder, key);
    if ((file = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return as_result(errno, gpu);
    length = read(file, text, size - 1);
    if (length < 0) {
        int error = errno;
        close(file);
        return as_result(error, gpu);
    }
    close(file);
    text[length] = 0;
    text[strcspn(text, "\n")] = 0;
    if (!strncmp(text, "hang ", 5)) {
        struct timespec rest = {atoi(text + 5), 0};
        nanosleep(&rest, NULL);
        return TIMED_OUT;
    }
    return OK;
}

static result text_of(const card *gpu, const char *key, char *text, unsigned size)
{
    char whole[256];
    result answer;
    if (!users)
        return UNINITIALIZED;
    if (!gpu || !text)
        return BAD_ARGUMENT;
    if ((answer = say(gpu->folder, gpu, key, whole, sizeof whole)) != OK)
        return answer;
    if (strlen(whole) >= size)
        return TOO_SMALL;
    strcpy(text, whole);
    return OK;
}

static result number_of(const card *gpu, const char *key, long long *value)
{
    char text[256], *end;
    result answer = text_of(gpu, key, text, sizeof text);
    if (answer != OK)
        return answer;
    *value = strtoll(text, &end, 10);
    return end == text ? UNKNOWN : OK;
}

static result whole_of(const card *gpu, const char *key, unsigned *value)
{
    long long found;
    result answer = value ? number_of(gpu, key, &found) : BAD_ARGUMENT;
    if (answer == OK)
        *value = (unsigned)found;
    return answer;
}

static result tell(const card *gpu, const char *key, const char *text)
{
    char path[640];
    int file;
    result answer = OK;
    if (!users)
        return UNINITIALIZED;
    if (!gpu)
        return BAD_ARGUMENT;
    if ((answer = say(gpu->folder, gpu, "ready", path, sizeof path)) != OK)
        return answer;
    snprintf(path, sizeof path, "%s/%s", gpu->folder, key);
    if ((file = open(path, O_WRONLY | O_CLOEXEC)) < 0)
        return as_result(errno, gpu);
    if (write(file, text, strlen(text)) < 0)
        answer = as_result(errno, gpu);
    close(file);
    return answer;
}

/* The library. */

result nvmlInit_v2(void)
{
    const char *given = getenv("TINYBOX_ROOT");
    char text[256];
    Dl_info own;
    if (users) {
        users++;
        return OK;
    }
    if (given && *given) {
        snprintf(root, sizeof root, "%s/nvml", given);
    } else if (dladdr((void *)nvmlInit_v2, &own)) {
        snprintf(root, sizeof root - 16, "%s", own.dli_fname);
        char *slash = strrchr(root, '/');
        strcpy(slash ? slash : root, "/../root/nvml");
    }
    if (say(root, NULL, "driver", text, sizeof text) != OK)
        return DRIVER_NOT_LOADED;
    users = 1;
    count = 0;
    for (unsigned i = 0; i < CARDS; i++) {
        card *gpu = &cards[count];
        snprintf(gpu->folder, sizeof gpu->folder, "%s/%u", root, i);
        if (say(gpu->folder, gpu, "pci", text, sizeof text) != OK || strlen(text) >= sizeof gpu->pci)
            continue;
        strcpy(gpu->pci, text);
        gpu->index = count++;
    }
    return OK;
}
result nvmlInit(void) { return nvmlInit_v2(); }
result nvmlInitWithFlags(unsigned flags) { return flags ? BAD_ARGUMENT : nvmlInit_v2(); }

result nvmlShutdown(void)
{
    if (!users)
        return UNINITIALIZED;
    users--;
    return OK;
}

const char *nvmlErrorString(result code)
{
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (atoi(words[i][0]) == code)
            return words[i][1];
    return "Unknown Error";
}

static result system_text(const char *key, char *text, unsigned size)
{
    char whole[256];
    if (!users)
        return UNINITIALIZED;
    if (say(root, NULL, key, whole, sizeof whole) != OK)
        return NOT_SUPPORTED;
    if (strlen(whole) >= size)
        return TOO_SMALL;
    strcpy(text, whole);
    return OK;
}
result nvmlSystemGetDriverVersion(char *text, unsigned size) { return system_text("driver", text, size); }
result nvmlSystemGetNVMLVersion(char *text, unsigned size) { return system_text("driver", text, size); }
result nvmlSystemGetCudaDriverVersion(int *version) { *version = 12080; return users ? OK : UNINITIALIZED; }
result nvmlSystemGetCudaDriverVersion_v2(int *version) { return nvmlSystemGetCudaDriverVersion(version); }

/* Which card. */

result nvmlDeviceGetCount_v2(unsigned *found) { *found = count; return users ? OK : UNINITIALIZED; }
result nvmlDeviceGetCount(unsigned *found) { return nvmlDeviceGetCount_v2(found); }

result nvmlDeviceGetHandleByIndex_v2(unsigned index, card **gpu)
{
    if (!users)
        return UNINITIALIZED;
    if (index >= count)
        return BAD_ARGUMENT;
    *gpu = &cards[index];
    struct stat found;
    return stat(cards[index].folder, &found) ? IS_LOST : OK;
}
result nvmlDeviceGetHandleByIndex(unsigned index, card **gpu) { return nvmlDeviceGetHandleByIndex_v2(index, gpu); }

result nvmlDeviceGetHandleByPciBusId_v2(const char *address, card **gpu)
{
    unsigned domain, bus, device, has[3];
    if (!users)
        return UNINITIALIZED;
    if (sscanf(address, "%x:%x:%x", &domain, &bus, &device) != 3)
        return BAD_ARGUMENT;
    for (unsigned i = 0; i < count; i++)
        if (sscanf(cards[i].pci, "%x:%x:%x", &has[0], &has[1], &has[2]) == 3 && has[0] == domain && has[1] == bus
            && has[2] == device)
            return nvmlDeviceGetHandleByIndex_v2(i, gpu);
    return NOT_FOUND;
}
result nvmlDeviceGetHandleByPciBusId(const char *pci, card **gpu) { return nvmlDeviceGetHandleByPciBusId_v2(pci, gpu); }

result nvmlDeviceGetHandleByUUID(const char *uuid, card **gpu)
{
    char text[96];
    for (unsigned i = 0; i < count; i++)
        if (text_of(&cards[i], "uuid", text, sizeof text) == OK && !strcmp(text, uuid)) {
            *gpu = &cards[i];
            return OK;
        }
    return users ? NOT_FOUND : UNINITIALIZED;
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, pci_id, subsystem_id;
    char address[32];
} pci_info;

result nvmlDeviceGetPciInfo_v3(card *gpu, pci_info *info)
{
    char text[32];
    result answer = gpu && info ? text_of(gpu, "pci_id", text, sizeof text) : BAD_ARGUMENT;
    if (answer != OK)
        return answer;
    memset(info, 0, sizeof *info);
    sscanf(gpu->pci, "%x:%x:%x", &info->domain, &info->bus, &info->device);
    info->pci_id = (unsigned)strtoul(text, NULL, 16);
    if (text_of(gpu, "subsystem_id", text, sizeof text) == OK)
        info->subsystem_id = (unsigned)strtoul(text, NULL, 16);
    snprintf(info->legacy, sizeof info->legacy, "%04X:%02X:%02X.0", info->domain & 0xffff, info->bus & 0xff,
             info->device & 0xff);
    snprintf(info->address, sizeof info->address, "%08X:%02X:%02X.0", info->domain, info->bus & 0xff,
             info->device & 0xff);
    return OK;
}
result nvmlDeviceGetPciInfo_v2(card *gpu, pci_info *info) { return nvmlDeviceGetPciInfo_v3(gpu, info); }
result nvmlDeviceGetPciInfo(card *gpu, pci_info *info) { return nvmlDeviceGetPciInfo_v3(gpu, info); }

#define TEXT(function, key) \
    result function(card *gpu, char *text, unsigned size) { return text_of(gpu, key, text, size); }
#define NUMBER(function, key) \
    result function(card *gpu, unsigned *value) { return whole_of(gpu, key, value); }

TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetVbiosVersion, "vbios")
TEXT(nvmlDeviceGetSerial, "serial")
NUMBER(nvmlDeviceGetMinorNumber, "minor")
NUMBER(nvmlDeviceGetPowerUsage, "power_mean_mw")
NUMBER(nvmlDeviceGetPowerManagementLimit, "limit_mw")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "limit_mw")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "limit_default_mw")
NUMBER(nvmlDeviceGetFanSpeed, "fan_pct")
NUMBER(nvmlDeviceGetNumFans, "fans")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "link_width")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "link_gen")
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "link_width_max")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "link_gen_max")
NUMBER(nvmlDeviceGetPcieReplayCounter, "replays")
NUMBER(nvmlDeviceGetPerformanceState, "pstate")
NUMBER(nvmlDeviceGetPersistenceMode, "persistence")
NUMBER(nvmlDeviceGetComputeMode, "compute_mode")
NUMBER(nvmlDeviceGetDisplayMode, "display")
NUMBER(nvmlDeviceGetDisplayActive, "display")

result nvmlDeviceGetIndex(card *gpu, unsigned *index) { *index = gpu->index; return users ? OK : UNINITIALIZED; }
static result fan_of(const card *gpu, unsigned fan)
{
    unsigned fans;
    result answer = whole_of(gpu, "fans", &fans);
    return answer != OK ? answer : fan < fans ? OK : BAD_ARGUMENT;
}
result nvmlDeviceGetFanSpeed_v2(card *gpu, unsigned fan, unsigned *percent)
{
    result answer = fan_of(gpu, fan);
    return answer == OK ? whole_of(gpu, "fan_pct", percent) : answer;
}

typedef struct { unsigned version, fan, speed; } fan_speed;
result nvmlDeviceGetFanSpeedRPM(card *gpu, fan_speed *info)
{
    result answer = info->version >> 24 == 1 ? fan_of(gpu, info->fan) : BAD_VERSION;
    return answer == OK ? whole_of(gpu, "fan_rpm", &info->speed) : answer;
}

result nvmlDeviceGetTemperature(card *gpu, int sensor, unsigned *value)
{
    return sensor ? BAD_ARGUMENT : whole_of(gpu, "temp_c", value);
}

typedef struct { unsigned version; int sensor, value; } temperature_v1;
result nvmlDeviceGetTemperatureV(card *gpu, temperature_v1 *info)
{
    if (info->version >> 24 != 1)
        return BAD_VERSION;
    return info->sensor ? BAD_ARGUMENT : whole_of(gpu, "temp_v_c", (unsigned *)&info->value);
}

result nvmlDeviceGetTemperatureThreshold(card *gpu, int which, unsigned *value)
{
    static const char *const keys[] = {"shutdown_c", "slowdown_c", "memory_max_c", "gpu_max_c"};
    return which < 0 || which > 3 ? NOT_SUPPORTED : whole_of(gpu, keys[which], value);
}

typedef struct { unsigned version; int margin; } margin_v1;
result nvmlDeviceGetMarginTemperature(card *gpu, margin_v1 *info)
{
    return info->version >> 24 == 1 ? whole_of(gpu, "margin_c", (unsigned *)&info->margin) : BAD_VERSION;
}

result nvmlDeviceGetPowerManagementLimitConstraints(card *gpu, unsigned *least, unsigned *most)
{
    result answer = whole_of(gpu, "limit_min_mw", least);
    return answer == OK ? whole_of(gpu, "limit_max_mw", most) : answer;
}

static result clock_of(card *gpu, int domain, unsigned *value)
{
    static const char *const keys[] = {"clock_mhz", "clock_mhz", "memory_clock_mhz", "clock_mhz"};
    return domain < 0 || domain > 3 ? BAD_ARGUMENT : whole_of(gpu, keys[domain], value);
}
result nvmlDeviceGetClockInfo(card *gpu, int domain, unsigned *value) { return clock_of(gpu, domain, value); }
result nvmlDeviceGetClock(card *gpu, int domain, int which, unsigned *value)
{
    return which ? NOT_SUPPORTED : clock_of(gpu, domain, value);
}
result nvmlDeviceGetMaxClockInfo(card *gpu, int domain, unsigned *value)
{
    static const char *const keys[] = {"clock_max_mhz", "clock_max_mhz", "memory_clock_max_mhz", "clock_max_mhz"};
    return domain < 0 || domain > 3 ? BAD_ARGUMENT : whole_of(gpu, keys[domain], value);
}

typedef struct { unsigned gpu, memory; } utilization;
result nvmlDeviceGetUtilizationRates(card *gpu, utilization *rates)
{
    result answer = whole_of(gpu, "busy_pct", &rates->gpu);
    return answer == OK ? whole_of(gpu, "memory_busy_pct", &rates->memory) : answer;
}

static result still(card *gpu, unsigned *percent, unsigned *period_us)
{
    *period_us = 167000;
    return whole_of(gpu, "codec_pct", percent);
}
result nvmlDeviceGetEncoderUtilization(card *gpu, unsigned *pct, unsigned *us) { return still(gpu, pct, us); }
result nvmlDeviceGetDecoderUtilization(card *gpu, unsigned *pct, unsigned *us) { return still(gpu, pct, us); }

typedef struct { uint64_t total, free, used; } memory_v1;
result nvmlDeviceGetMemoryInfo(card *gpu, memory_v1 *memory)
{
    long long total, used;
    result answer = number_of(gpu, "memory_total_bytes", &total);
    if (answer == OK)
        answer = number_of(gpu, "memory_used_bytes", &used);
    if (answer != OK)
        return answer;
    *memory = (memory_v1){(uint64_t)total, (uint64_t)(total - used), (uint64_t)used};
    return OK;
}
typedef struct { unsigned version; uint64_t total, reserved, free, used; } memory_v2;
result nvmlDeviceGetMemoryInfo_v2(card *gpu, memory_v2 *memory)
{
    memory_v1 plain;
    result answer = memory->version >> 24 == 2 ? nvmlDeviceGetMemoryInfo(gpu, &plain) : BAD_VERSION;
    long long reserved;
    if (answer != OK)
        return answer;
    if (number_of(gpu, "memory_reserved_bytes", &reserved) != OK)
        reserved = 0;
    memory->total = plain.total, memory->reserved = (uint64_t)reserved;
    memory->free = plain.free, memory->used = plain.used - (uint64_t)reserved;
    return OK;
}
typedef struct { uint64_t total, free, used; } bar1_memory;
result nvmlDeviceGetBAR1MemoryInfo(card *gpu, bar1_memory *memory)
{
    long long total;
    result answer = number_of(gpu, "bar1_bytes", &total);
    if (answer == OK)
        memory->total = memory->free = (uint64_t)total, memory->used = 0;
    return answer;
}

result nvmlDeviceGetCurrentClocksThrottleReasons(card *gpu, unsigned long long *reasons)
{
    return number_of(gpu, "throttle_bits", (long long *)reasons);
}
result nvmlDeviceGetCurrentClocksEventReasons(card *gpu, unsigned long long *reasons)
{
    return number_of(gpu, "event_bits", (long long *)reasons);
}

result nvmlDeviceGetPcieThroughput(card *gpu, int which, unsigned *kib_per_s)
{
    struct timespec window = {0, 20000000}; /* the real one counts over this long, and blocks meanwhile */
    (void)which;
    nanosleep(&window, NULL);
    return whole_of(gpu, "codec_pct", kib_per_s);
}

result nvmlDeviceGetEccMode(card *gpu, unsigned *now, unsigned *pending)
{
    result answer = whole_of(gpu, "ecc_mode", now);
    *pending = *now;
    return answer;
}
result nvmlDeviceGetTotalEccErrors(card *gpu, int kind, int counter, unsigned long long *errors)
{
    (void)counter;
    return number_of(gpu, kind ? "ecc_uncorrected" : "ecc_corrected", (long long *)errors);
}
result nvmlDeviceGetRemappedRows(card *gpu, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                                 unsigned *failed)
{
    result answer = whole_of(gpu, "remapped_corrected", corrected);
    if (answer == OK)
        answer = whole_of(gpu, "remapped_uncorrected", uncorrected);
    if (answer == OK)
        answer = whole_of(gpu, "remap_pending", pending);
    return answer == OK ? whole_of(gpu, "remap_failed", failed) : answer;
}

result nvmlDeviceGetCudaComputeCapability(card *gpu, int *major, int *minor)
{
    char text[16];
    result answer = text_of(gpu, "capability", text, sizeof text);
    if (answer == OK && sscanf(text, "%d.%d", major, minor) != 2)
        return UNKNOWN;
    return answer;
}

/* Programs that hold the card: lines `PID BYTES`, in one text. */

typedef struct { unsigned pid; unsigned long long bytes; unsigned instance, compute_instance; } process;
result nvmlDeviceGetComputeRunningProcesses_v3(card *gpu, unsigned *room, process *found)
{
    char text[256];
    unsigned pid;
    unsigned long long bytes;
    result answer = room ? text_of(gpu, "process", text, sizeof text) : BAD_ARGUMENT;
    if (answer != OK)
        return answer;
    if (sscanf(text, "%u %llu", &pid, &bytes) != 2) {
        *room = 0;
        return OK;
    }
    if (*room < 1 || !found) {
        *room = 1;
        return TOO_SMALL;
    }
    *found = (process){pid, bytes, 0xffffffff, 0xffffffff};
    *room = 1;
    return OK;
}
result nvmlDeviceGetComputeRunningProcesses_v2(card *gpu, unsigned *room, process *found)
{
    return nvmlDeviceGetComputeRunningProcesses_v3(gpu, room, found);
}
result nvmlDeviceGetGraphicsRunningProcesses_v3(card *gpu, unsigned *room, process *found)
{
    char text[256];
    (void)found;
    *room = 0;
    return text_of(gpu, "process", text, sizeof text);
}
result nvmlDeviceGetGraphicsRunningProcesses_v2(card *gpu, unsigned *room, process *found)
{
    return nvmlDeviceGetGraphicsRunningProcesses_v3(gpu, room, found);
}

/* Field values. */

typedef struct {
    unsigned field, scope;
    long long timestamp, latency_us;
    unsigned type;
    result answer;
    union { double real; unsigned whole; long long with_sign; int sign; } value;
} field_value;

static const struct { unsigned field; const char *key; int is_signed; } fields[] = {
    {1, "ecc_mode", 0}, {3, "ecc_corrected", 0}, {4, "ecc_uncorrected", 0}, {94, "replays", 0},
    {142, "remapped_corrected", 0}, {143, "remapped_uncorrected", 0}, {144, "remap_pending", 0},
    {145, "remap_failed", 0}, {185, "power_mean_mw", 0}, {186, "power_mw", 0}, {187, "limit_min_mw", 0},
    {188, "limit_max_mw", 0}, {189, "limit_default_mw", 0}, {190, "limit_mw", 0}, {192, "limit_mw", 0},
    {193, "shutdown_tlimit_k", 1}, {194, "slowdown_tlimit_k", 1}, {196, "gpu_max_tlimit_k", 1},
};

result nvmlDeviceGetFieldValues(card *gpu, int wanted, field_value *values)
{
    result answer;
    char text[64];
    if (wanted < 1 || !values)
        return BAD_ARGUMENT;
    if ((answer = text_of(gpu, "has_fields", text, sizeof text)) != OK)
        return answer;
    for (int i = 0; i < wanted; i++) {
        long long number;
        values[i].answer = NOT_SUPPORTED;
        for (unsigned k = 0; k < sizeof fields / sizeof *fields; k++) {
            if (fields[k].field != values[i].field)
                continue;
            if ((values[i].answer = number_of(gpu, fields[k].key, &number)) != OK)
                continue;
            values[i].type = fields[k].is_signed ? 5 : 1; /* NVML_VALUE_TYPE_SIGNED_INT, _UNSIGNED_INT */
            values[i].value.with_sign = 0;
            if (fields[k].is_signed)
                values[i].value.sign = (int)number;
            else
                values[i].value.whole = (unsigned)number;
        }
    }
    return OK;
}

/* Limits. */

result nvmlDeviceSetPowerManagementLimit(card *gpu, unsigned milliwatts)
{
    char text[32];
    snprintf(text, sizeof text, "%u", milliwatts);
    return tell(gpu, "limit_mw", text);
}
result nvmlDeviceSetGpuLockedClocks(card *gpu, unsigned least_mhz, unsigned most_mhz)
{
    char text[32];
    snprintf(text, sizeof text, "%u %u", least_mhz, most_mhz);
    return tell(gpu, "lock", text);
}
result nvmlDeviceResetGpuLockedClocks(card *gpu) { return tell(gpu, "lock", "reset"); }

result nvmlDeviceSetFanSpeed_v2(card *gpu, unsigned fan, unsigned percent)
{
    char text[32];
    result answer = fan_of(gpu, fan);
    snprintf(text, sizeof text, "%u", percent);
    return answer == OK ? tell(gpu, "fan_told", text) : answer;
}
result nvmlDeviceSetDefaultFanSpeed_v2(card *gpu, unsigned fan)
{
    result answer = fan_of(gpu, fan);
    return answer == OK ? tell(gpu, "fan_told", "auto") : answer;
}
result nvmlDeviceGetFanControlPolicy_v2(card *gpu, unsigned fan, unsigned *policy)
{
    result answer = fan_of(gpu, fan);
    return answer == OK ? whole_of(gpu, "fan_policy", policy) : answer;
}
result nvmlDeviceGetTargetFanSpeed(card *gpu, unsigned fan, unsigned *percent)
{
    result answer = fan_of(gpu, fan);
    return answer == OK ? whole_of(gpu, "fan_told", percent) : answer;
}
result nvmlDeviceGetMinMaxFanSpeed(card *gpu, unsigned *least, unsigned *most)
{
    result answer = whole_of(gpu, "fan_least_pct", least);
    if (answer == OK)
        *most = 100;
    return answer;
}

/* What GeForce cards answer. */

#define LACKS(function) result function(void) { return users ? NOT_SUPPORTED : UNINITIALIZED; }
LACKS(nvmlDeviceGetMigMode)
LACKS(nvmlDeviceGetDriverModel)
LACKS(nvmlDeviceGetDriverModel_v2)
LACKS(nvmlDeviceGetMPSComputeRunningProcesses_v3)
LACKS(nvmlDeviceGetMPSComputeRunningProcesses_v2)
LACKS(nvmlDeviceGetProcessUtilization)
LACKS(nvmlDeviceGetMaxMigDeviceCount)
LACKS(nvmlDeviceGetMemoryErrorCounter)
LACKS(nvmlDeviceGetViolationStatus)
result nvmlDeviceIsMigDeviceHandle(card *gpu, unsigned *is_mig) { (void)gpu; *is_mig = 0; return users ? OK : UNINITIALIZED; }
