/* cmd_doctor.c: examine a bus, and say how to mend what is found.
 *
 * Reads only, and does not stand for keeper: a doctor who stepped in would find that a missing keeper is there. Exit 1
 * when something worse than a note was found, so that a health check needs no parsing. */
#include "commands.h"

#include <stdio.h>
#include <string.h>

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

static int run(const struct args *args)
{
    struct report report = {.json = args->json};
    struct evbus *bus;
    int exit_code = check_operands(args, 0, 0, usage);
    if (exit_code == EXIT_DONE)
        exit_code = open_bus(args, EVBUS_KEEPER_NEVER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
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
    .text = "Prints findings with their severity (note, warning, problem) and their mend; with --json one object a\n"
            "line. Exit 1 when something worse than a note was found. Changes nothing. Until\n"
            "there is a journal an absent group fills its logs, and then producers get EVBUS_EFULL (exit 75): `evbus\n"
            "group show GROUP` tells how far it is behind. The log of dead letters releases nothing.",
    .examples = "evbus doctor\nevbus doctor --json -b staging",
    .run = run,
};
