/* cmd_bridge.c: the bridge between a bus and its broker: how it is, pause it, let it go on.
 *
 * What is told stands in the bus: so it is told whether a bridge runs or not, and whether its log can be read or not. How many cells are
 * not out yet is told by partition; in events, `evbus group show bridge-<name>` tells it.
 * Checked by tests/cli/test_bridge.sh. */
#include "commands.h"

#include <evbus/mirror.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char usage[] = "bridge status [NAME]\nbridge pause [NAME]\nbridge resume [NAME]";

struct listing {
    const struct args *args;
    const char *name; /* NULL: all */
    size_t n;
    bool is_well; /* each is led and not paused */
};

static uint64_t behind(const struct evbus_mirror_part *part)
{
    return part->tail > part->held ? part->tail - part->held : 0;
}

static void print_parts_json(const struct evbus_mirror_stat *stat)
{
    (void)printf(",\"partitions\":[");
    for (size_t i = 0; i < stat->n_parts; i++) {
        const struct evbus_mirror_part *part = &stat->parts[i];
        (void)printf("%s{\"log\":", i == 0 ? "" : ",");
        print_json(part->log, strlen(part->log));
        (void)printf(",\"partition\":%" PRIu32 ",\"held\":\"%" PRIu64 "\",\"told\":\"%" PRIu64 "\",\"tail\":\"%" PRIu64
                     "\"}",
                     part->partition, part->held, stat->told[i], part->tail);
    }
    (void)printf("]");
}

static void print_stat_json(const struct evbus_mirror_stat *stat)
{
    (void)printf("{\"mirror\":");
    print_json(stat->name, strlen(stat->name));
    (void)printf(",\"led\":%s,\"paused\":%s,\"service\":", stat->is_led ? "true" : "false",
                 stat->is_paused ? "true" : "false");
    print_json(stat->service, strlen(stat->service));
    (void)printf(",\"pid\":%" PRId32 ",\"standBy\":%" PRIu32 ",\"state\":", stat->pid, stat->n_others);
    print_json(stat->text, strlen(stat->text));
    print_parts_json(stat);
    (void)printf("}\n");
}

static void print_stat_plain(const struct evbus_mirror_stat *stat)
{
    (void)printf("mirror %s: ", stat->name);
    if (stat->is_paused) /* from the very moment of the order: the text trails by a turn of the bridge */
        (void)printf("paused; go on with: evbus bridge resume%s", stat->is_led ? "" : "; no bridge runs");
    else if (!stat->is_led)
        (void)printf("no bridge runs");
    else
        print_plain(stat->text, strlen(stat->text));
    (void)printf("\n");
    if (stat->is_led) {
        (void)printf("  led by ");
        print_plain(stat->service, strlen(stat->service));
        (void)printf(", process %" PRId32 "; %" PRIu32 " stand%s by\n", stat->pid, stat->n_others,
                     stat->n_others == 1 ? "s" : "");
    }
    (void)printf("\n%-28s %14s %14s %14s\n", "PARTITION", "OUT", "TAIL", "BEHIND, MIB");
    for (size_t i = 0; i < stat->n_parts; i++) {
        char name[160];
        const struct evbus_mirror_part *part = &stat->parts[i];
        (void)snprintf(name, sizeof name, "%s/%" PRIu32, part->log, part->partition);
        (void)printf("%-28s %14" PRIu64 " %14" PRIu64 " %14.2f\n", name, part->held, part->tail,
                     mebibytes(64 * behind(part)));
    }
}

static int print_stat(void *context, const struct evbus_mirror_stat *stat)
{
    struct listing *listing = context;
    if (listing->name != NULL && strcmp(listing->name, stat->name) != 0)
        return EVBUS_OK;
    if (listing->args->json)
        print_stat_json(stat);
    else
        print_stat_plain(stat);
    listing->n++;
    listing->is_well = listing->is_well && stat->is_led && !stat->is_paused;
    return output_is_closed();
}

static int status(const struct args *args, struct evbus *bus, const char *name)
{
    struct listing listing = {.args = args, .name = name, .is_well = true};
    int rc = evbus_mirrors(bus, print_stat, &listing);
    if (rc < 0)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (listing.n == 0)
        return complain(EXIT_NO,
                        "%s%s has no mirror%s%s: no bridge has run on it yet; evbus-bridge --redis URL starts one",
                        "bus ", args->bus, name != NULL ? " " : "", name != NULL ? name : "");
    return listing.is_well ? EXIT_DONE : EXIT_NO;
}

static int run(const struct args *args)
{
    struct evbus *bus;
    int exit_code = check_operands(args, 1, 2, usage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    const char *verb = args->operands[0];
    const char *name = args->n_operands > 1 ? args->operands[1] : NULL;
    bool is_pause = strcmp(verb, "pause") == 0;
    if (!is_pause && strcmp(verb, "status") != 0 && strcmp(verb, "resume") != 0)
        return complain(EXIT_USAGE, "evbus bridge %s: it is status, pause or resume", verb);
    if ((exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus)) != EXIT_DONE)
        return exit_code;
    if (strcmp(verb, "status") == 0) {
        exit_code = status(args, bus, name);
    } else {
        int rc = evbus_mirror_pause(bus, name, is_pause);
        exit_code = rc == EVBUS_OK ? EXIT_DONE : complain_of(rc, BLAME_COMMAND_LINE);
    }
    evbus_close(bus);
    return exit_code;
}

const struct command command_bridge = {
    .name = "bridge",
    .summary = "how the bridge to a broker is; pause it, let it go on",
    .usage = usage,
    .text =
        "status tells who leads, how it is, and how far each partition is out; it exits 1 when no bridge runs or it "
        "is\n"
        "paused. pause lets nothing go out or in, until resume: events wait in the bus. NAME is the mirror's, where\n"
        "there is more than one; with --json one object a line.",
    .examples = "evbus bridge status\nevbus bridge pause && redis-cli SHUTDOWN",
    .run = run,
};
