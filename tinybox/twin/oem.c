/* What a box's BMC adds to ipmi_sim: DCMI power reading, and the board maker's fan commands (docs/protocol/bmc.md).
 *
 * The module's option is "FAMILY:FOLDER". In the folder the plant writes `wall_w`, `fan_now` (percent) and, while
 * somebody else drives the fans, `taken` (percent); we write `fan_duty` ("auto" or percent).
 */
#include <OpenIPMI/mcserv.h>
#include <OpenIPMI/serv.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 16
#define DCMI_GROUP 0xdc
#define DCMI_GET_POWER 0x02
#define CC_OK 0x00
#define CC_BAD_COMMAND 0xc1
#define CC_BAD_LENGTH 0xc7
#define CC_BAD_FIELD 0xcc
#define SM_FULL 1
#define SM_OPTIMAL 2

static const char *folder = ".";
static unsigned char modes[SLOTS], duties[SLOTS]; /* a mode is 0 or 1, whatever the family calls manual */
static int was_taken;

static FILE *open_in_folder(const char *name, const char *how)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, how);
}

static int number_in(const char *name, int otherwise)
{
    int value = otherwise;
    FILE *file = open_in_folder(name, "r");
    if (file) {
        if (fscanf(file, "%d", &value) != 1)
            value = otherwise;
        fclose(file);
    }
    return value;
}

static void tell_the_plant(void)
{
    FILE *file = open_in_folder("fan_duty", "w");
    if (!file)
        return;
    if (modes[0])
        fprintf(file, "%d\n", duties[0]);
    else
        fprintf(file, "auto\n");
    fclose(file);
}

/* Somebody else may have taken the fans, and may have given them back. */
static void look_who_drives(void)
{
    int taken = number_in("taken", 0);
    if (taken) {
        memset(modes, 1, sizeof modes);
        memset(duties, taken, sizeof duties);
    } else if (was_taken) {
        memset(modes, 0, sizeof modes);
        tell_the_plant();
    }
    was_taken = taken != 0;
}

static void answer(unsigned char *reply, unsigned int *length, unsigned char code)
{
    reply[0] = code;
    *length = 1;
}

static void answer_slots(unsigned char *reply, unsigned int *length, const unsigned char *values)
{
    reply[0] = CC_OK;
    memcpy(reply + 1, values, SLOTS);
    *length = 1 + SLOTS;
}

static void answer_duties(unsigned char *reply, unsigned int *length)
{
    unsigned char now[SLOTS];
    int automatic = number_in("fan_now", 30);
    for (int slot = 0; slot < SLOTS; slot++)
        now[slot] = modes[slot] ? duties[slot] : automatic;
    answer_slots(reply, length, now);
}

static unsigned char take_modes(const unsigned char *data, unsigned int count, unsigned char manual)
{
    if (count != SLOTS)
        return CC_BAD_LENGTH;
    for (int slot = 0; slot < SLOTS; slot++)
        modes[slot] = data[slot] == manual;
    tell_the_plant();
    return CC_OK;
}

/* Every slot must be manual and no duty zero; up to the one that is wrong they take effect all the same. */
static unsigned char take_duties(const unsigned char *data, unsigned int count)
{
    unsigned char code = CC_OK;
    if (count != SLOTS)
        return CC_BAD_LENGTH;
    for (int slot = 0; slot < SLOTS && code == CC_OK; slot++) {
        if (!modes[slot] || data[slot] == 0 || data[slot] > 100)
            code = CC_BAD_FIELD;
        else
            duties[slot] = data[slot];
    }
    tell_the_plant();
    return code;
}

static void ast2500(lmc_data_t *mc, msg_t *request, unsigned char *reply, unsigned int *length, void *what)
{
    (void)mc;
    look_who_drives();
    switch ((int)(long)what) {
    case 0xd8:
        return answer(reply, length, take_modes(request->data, request->len, 1));
    case 0xd6:
        return answer(reply, length, take_duties(request->data, request->len));
    case 0xd9:
        return answer_slots(reply, length, modes);
    default: /* 0xd7 and 0xda */
        return answer_duties(reply, length);
    }
}

static void ast2600(lmc_data_t *mc, msg_t *request, unsigned char *reply, unsigned int *length, void *unused)
{
    unsigned char shown[SLOTS];
    (void)mc;
    (void)unused;
    if (request->len < 1)
        return answer(reply, length, CC_BAD_LENGTH);
    look_who_drives();
    switch (request->data[0]) {
    case 0x11:
        return answer(reply, length, take_modes(request->data + 1, request->len - 1, 2));
    case 0x0e:
        return answer(reply, length, take_duties(request->data + 1, request->len - 1));
    case 0x0f:
        return answer_duties(reply, length);
    case 0x12:
        for (int slot = 0; slot < SLOTS; slot++)
            shown[slot] = modes[slot] * 2;
        return answer_slots(reply, length, shown);
    default:
        return answer(reply, length, CC_BAD_FIELD);
    }
}

static void supermicro_mode(lmc_data_t *mc, msg_t *request, unsigned char *reply, unsigned int *length, void *unused)
{
    (void)mc;
    (void)unused;
    look_who_drives();
    if (request->len == 1 && request->data[0] == 0) {
        reply[0] = CC_OK;
        reply[1] = modes[0] ? SM_FULL : SM_OPTIMAL;
        *length = 2;
        return;
    }
    if (request->len != 2 || request->data[0] != 1 || request->data[1] > 4)
        return answer(reply, length, CC_BAD_FIELD);
    memset(modes, request->data[1] == SM_FULL, sizeof modes);
    memset(duties, 100, sizeof duties);
    tell_the_plant();
    answer(reply, length, CC_OK);
}

static void supermicro_duty(lmc_data_t *mc, msg_t *request, unsigned char *reply, unsigned int *length, void *unused)
{
    const unsigned char *data = request->data;
    (void)mc;
    (void)unused;
    if (request->len < 3 || data[0] != 0x66 || data[2] > 1)
        return answer(reply, length, CC_BAD_FIELD);
    look_who_drives();
    if (data[1] == 0) {
        reply[0] = CC_OK;
        reply[1] = modes[0] ? duties[data[2]] : number_in("fan_now", 30);
        *length = 2;
        return;
    }
    if (request->len != 4 || data[3] > 100)
        return answer(reply, length, CC_BAD_FIELD);
    duties[data[2]] = data[3];
    tell_the_plant();
    answer(reply, length, CC_OK);
}

static void put_u16(unsigned char *where, unsigned value)
{
    where[0] = value & 0xff;
    where[1] = value >> 8;
}

static void dcmi_command(lmc_data_t *mc, msg_t *request, unsigned char *reply, unsigned int *length, void *unused)
{
    unsigned watts = number_in("wall_w", 0);
    (void)mc;
    (void)unused;
    if (request->cmd != DCMI_GET_POWER)
        return answer(reply, length, CC_BAD_COMMAND);
    memset(reply, 0, 19);
    reply[1] = DCMI_GROUP;
    for (int i = 0; i < 4; i++) /* now, least, most, mean */
        put_u16(reply + 2 + 2 * i, watts);
    put_u16(reply + 14, 1000); /* over so many milliseconds */
    reply[18] = 0x40;          /* measuring */
    *length = 19;
}

static void add(unsigned char netfn, unsigned char command, cmd_handler_f handler)
{
    int error = ipmi_emu_register_cmd_handler(netfn, command, handler, (void *)(long)command);
    if (error) /* a simulator without them is still a BMC: fans stay automatic */
        fprintf(stderr, "fan command 0x%02x not registered: %s\n", command, strerror(error));
}

int ipmi_sim_module_print_version(sys_data_t *sys, const char *options)
{
    (void)sys;
    (void)options;
    printf("tinybox twin BMC\n");
    return 0;
}

int ipmi_sim_module_init(sys_data_t *sys, const char *options)
{
    const char *colon = options ? strchr(options, ':') : NULL;
    (void)sys;
    if (!colon)
        return EINVAL;
    folder = strdup(colon + 1);
    memset(duties, 30, sizeof duties);
    ipmi_emu_register_group_extension_handler(DCMI_GROUP, dcmi_command, NULL);
    if (strncmp(options, "ast2500:", 8) == 0) {
        for (int command = 0xd6; command <= 0xda; command++)
            add(0x3a, command, ast2500);
    } else if (strncmp(options, "ast2600:", 8) == 0) {
        add(0x3a, 0xd0, ast2600);
    } else if (strncmp(options, "supermicro:", 11) == 0) {
        add(0x30, 0x45, supermicro_mode);
        add(0x30, 0x70, supermicro_duty);
    }
    return 0;
}
