/* What a box's BMC adds to ipmi_sim: DCMI power reading, and the board maker's fan commands (network function 0x3a).
 *
 * The module's option is a folder: the plant writes `wall_w` there, we write `fan_duty` ("auto" or percent).
 * 0xd8 takes 16 modes (0 automatic, 1 manual), 0xd6 takes 16 duties in percent, 0xda reads the duties back.
 */
#include <OpenIPMI/mcserv.h>
#include <OpenIPMI/serv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ZONES 16
#define FAN_NETFN 0x3a
#define FAN_MODES 0xd8
#define FAN_SET_DUTY 0xd6
#define FAN_GET_DUTY 0xda
#define DCMI_GROUP 0xdc
#define DCMI_GET_POWER 0x02
#define CC_OK 0x00
#define CC_BAD_COMMAND 0xc1
#define CC_BAD_LENGTH 0xc7
#define CC_BAD_FIELD 0xcc

static const char *folder = ".";
static unsigned char modes[ZONES], duties[ZONES];

static FILE *open_in_folder(const char *name, const char *how)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, how);
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

static void answer(unsigned char *reply, unsigned int *length, unsigned char code)
{
    reply[0] = code;
    *length = 1;
}

static void fan_command(lmc_data_t *mc, msg_t *request, unsigned char *reply, unsigned int *length, void *what)
{
    (void)mc;
    switch ((int)(long)what) {
    case FAN_MODES:
        if (request->len < ZONES)
            return answer(reply, length, CC_BAD_LENGTH);
        memcpy(modes, request->data, ZONES);
        break;
    case FAN_SET_DUTY:
        if (request->len < ZONES)
            return answer(reply, length, CC_BAD_LENGTH);
        for (int zone = 0; zone < ZONES; zone++)
            if (!modes[zone] || request->data[zone] == 0 || request->data[zone] > 100)
                return answer(reply, length, CC_BAD_FIELD);
        memcpy(duties, request->data, ZONES);
        break;
    default:
        reply[0] = CC_OK;
        memcpy(reply + 1, duties, ZONES);
        *length = 1 + ZONES;
        return;
    }
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
    unsigned watts = 0;
    FILE *file;
    (void)mc;
    (void)unused;
    if (request->cmd != DCMI_GET_POWER)
        return answer(reply, length, CC_BAD_COMMAND);
    file = open_in_folder("wall_w", "r");
    if (file) {
        if (fscanf(file, "%u", &watts) != 1)
            watts = 0;
        fclose(file);
    }
    memset(reply, 0, 19);
    reply[1] = DCMI_GROUP;
    for (int i = 0; i < 4; i++) /* now, least, most, mean */
        put_u16(reply + 2 + 2 * i, watts);
    put_u16(reply + 14, 1000); /* over so many milliseconds */
    reply[18] = 0x40;          /* measuring */
    *length = 19;
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
    static const long commands[] = {FAN_MODES, FAN_SET_DUTY, FAN_GET_DUTY};
    (void)sys;
    if (options && *options)
        folder = strdup(options);
    memset(duties, 30, sizeof duties);
    ipmi_emu_register_group_extension_handler(DCMI_GROUP, dcmi_command, NULL);
    for (unsigned i = 0; i < sizeof commands / sizeof *commands; i++) {
        int error = ipmi_emu_register_cmd_handler(FAN_NETFN, commands[i], fan_command, (void *)commands[i]);
        if (error) /* a simulator without them is still a BMC: fans stay automatic */
            fprintf(stderr, "fan command 0x%lx not registered: %s\n", commands[i], strerror(error));
    }
    return 0;
}
