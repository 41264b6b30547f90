/* group_seek.c: `evbus group seek`: a group goes back, or on, to another position.
 *
 * A line tells of each partition where it was and where it is now, as a receipt tells positions, so that a line of a move is
 * what takes it back. What would lose something the library refuses; --force is for who knows.
 * Checked by tests/cli/test_seek.sh. */
#include "group_seek.h"

#include <evbus/history.h>

#include <inttypes.h>
#include <stdio.h>

static const char *way_name(enum evbus_seek_way way)
{
    switch (way) {
    case EVBUS_SEEK_SKIPS:
        return "skips";
    case EVBUS_SEEK_AGAIN:
        return "again";
    default:
        return "stays";
    }
}

static int print_json_part(void *context, const struct evbus_seek_part *part)
{
    (void)context;
    (void)printf("{\"log\":\"%s\",\"partition\":%" PRIu32 ",\"from\":\"%" PRIu64 "\",\"to\":\"%" PRIu64
                 "\",\"way\":\"%s\",\"cells\":%" PRIu64 ",\"inHand\":%" PRIu32 ",\"dropped\":%" PRIu32
                 ",\"isOldest\":%s}\n",
                 part->log, part->partition, part->from_position, part->to_position, way_name(part->way), part->cells,
                 part->n_in_hand, part->n_dropped, part->is_oldest ? "true" : "false");
    return 0;
}

static int print_part(void *context, const struct evbus_seek_part *part)
{
    (void)context;
    (void)printf("%s/%" PRIu32 "@%" PRIu64 " -> %" PRIu64, part->log, part->partition, part->from_position,
                 part->to_position);
    if (part->way == EVBUS_SEEK_STAYS)
        (void)printf("  stays");
    else
        (void)printf(part->way == EVBUS_SEEK_SKIPS ? "  skips %" PRIu64 " cells" : "  %" PRIu64 " cells come again",
                     part->cells);
    if (part->n_dropped > 0)
        (void)printf(", drops %" PRIu32 " events in hand", part->n_dropped);
    if (part->n_in_hand > part->n_dropped)
        (void)printf(", %" PRIu32 " events in hand come again", part->n_in_hand - part->n_dropped);
    if (part->is_oldest)
        (void)printf(", the oldest that is kept");
    (void)printf("\n");
    return 0;
}

int group_seek(const struct args *args, struct evbus *bus)
{
    bool is_position = args->to.where == EVBUS_FROM_POSITION;
    if (!args->to.is_given)
        return complain(EXIT_USAGE, "where to? --to earliest, latest, a time or LOG/PARTITION@POSITION");
    int rc = evbus_group_seek(bus,
                              &(struct evbus_seek_options){.size = sizeof(struct evbus_seek_options),
                                                           .group = args->operands[1],
                                                           .from = args->to.where,
                                                           .from_time_ns = args->to.time_ns,
                                                           .from_position = args->to.position,
                                                           .log = is_position ? args->to.log : NULL,
                                                           .has_partition = is_position,
                                                           .partition = args->to.partition,
                                                           .dry_run = args->dry_run,
                                                           .force = args->force},
                              args->json ? print_json_part : print_part, NULL);
    if (rc != EVBUS_OK)
        return complain_of(rc, BLAME_COMMAND_LINE);
    if (!args->json)
        (void)printf("%s group %s\n", args->dry_run ? "would move" : "moved", args->operands[1]);
    return EXIT_DONE;
}
