/* cmd_doctor.c: examine a bus, and say how to mend what is found.
 *
 * Reads only, and does not stand for keeper: a doctor who stepped in would find that a missing keeper is there. Exit 1
 * when something worse than a note was found, so that a health check needs no parsing. */
#include "commands.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage[] = "doctor";

struct report {
    bool json;
    size_t n_findings;
};

static const char *severity_name(enum evbus_severity severity)
{
    switch (severity) {
    case EVBUS_FINDING_NOTE:
        return "note";
    case EVBUS_FINDING_WARNING:
        return "warning";
    case EVBUS_FINDING_PROBLEM:
        break;
    }
    return "problem";
}

static void print_finding(void *context, const struct evbus_finding *finding)
{
    struct report *report = context;
    const char *severity = severity_name(finding->severity);
    ++report->n_findings;
    if (report->json) {
        (void)printf("{\"severity\":\"%s\",\"what\":", severity);
        print_json(finding->what, strlen(finding->what));
        (void)printf(",\"mend\":");
        print_json(finding->mend, strlen(finding->mend));
        (void)printf("}\n");
        return;
    }
    (void)printf("%-8s ", severity);
    print_plain(finding->what, strlen(finding->what));
    if (finding->mend[0] != '\0') {
        (void)printf("\n    mend ");
        print_plain(finding->mend, strlen(finding->mend));
    }
    (void)printf("\n");
}

/* A bus that is there and cannot be opened is a finding, too. Returns the exit code. */
static int tell_refusal(const struct args *args, int code, struct report *report)
{
    char mend[256];
    const char *bus = args->bus;
    switch (code) {
    case EVBUS_EPERM:
        if (access("/dev/shm", W_OK) != 0 && errno == EROFS) /* it is not who we are: the message has the mend */
            return complain_of(code, BLAME_COMMAND_LINE);
        (void)snprintf(mend, sizeof mend, "run as its owner, or as one of its group: ls -l /dev/shm/evbus.%s.control",
                       bus);
        break;
    case EVBUS_ESTALE:
        (void)snprintf(mend, sizeof mend, "clear away what is left of it: evbus -b %s rm", bus);
        break;
    case EVBUS_ELAYOUT:
    case EVBUS_ECORRUPT:
    case EVBUS_ECATALOGUE:
        (void)snprintf(mend, sizeof mend,
                       "see what stands in it: evbus -b %s inspect; then: evbus -b %s rm && evbus -b %s init", bus, bus,
                       bus);
        break;
    default:
        return complain_of(code, BLAME_COMMAND_LINE);
    }
    print_finding(report, &(struct evbus_finding){.size = sizeof(struct evbus_finding),
                                                  .severity = EVBUS_FINDING_PROBLEM,
                                                  .what = evbus_message(NULL),
                                                  .mend = mend});
    return exit_of(code, BLAME_COMMAND_LINE);
}

static int run(const struct args *args)
{
    struct report report = {.json = args->json};
    struct evbus *bus;
    int exit_code = check_operands(args, 0, 0, usage);
    if (exit_code != EXIT_DONE)
        return exit_code;
    int refused = evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                           .bus = args->bus,
                                                           .service = args->service,
                                                           .keeper = EVBUS_KEEPER_NEVER});
    if (refused != EVBUS_OK)
        return tell_refusal(args, refused, &report);
    int rc = evbus_doctor(bus, print_finding, &report);
    if (rc == EVBUS_ENOTFOUND)
        exit_code = EXIT_NO;
    else if (rc != EVBUS_OK)
        exit_code = complain_of(rc, BLAME_COMMAND_LINE);
    else if (report.n_findings == 0 && !args->json)
        (void)printf("nothing found\n");
    evbus_close(bus);
    return exit_code;
}

const struct command command_doctor = {
    .name = "doctor",
    .summary = "examine a bus",
    .usage = usage,
    .text =
        "Prints findings with their severity (note, warning, problem) and their mend; with --json one object a\n"
        "line. Exit 1 when something worse than a note was found; 69, 70, 77 or 78 when it cannot be opened: that\n"
        "is a finding, too. Changes nothing. An absent group costs disk, and where \"journal\" is false it fills its\n"
        "logs (EVBUS_EFULL, exit 75): `evbus group show GROUP` tells how far it is behind.",
    .examples = "evbus doctor\nevbus doctor --json -b staging",
    .run = run,
};
