/* cmd_backup.c: copy what a bus remembers, while all runs.
 *
 * All of the work is the library's. How far it is stands on standard error: on a terminal in one line that is written over; else
 * as a line now and then, from one second on. Asked to stop, it leaves nothing: what has its name is whole.
 * Checked by tests/cli/test_backup.sh. */
#include "commands.h"

#include <evbus/history.h>

#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NS_PER_S       UINT64_C(1000000000)
#define ON_TERMINAL_NS (NS_PER_S / 10)
#define ON_PAPER_NS    (10 * NS_PER_S)

static const char usage[] = "backup DIR";

struct progress {
    const char *bus;
    bool is_terminal;
    bool has_line; /* on the terminal, without an end */
    uint64_t next_ns;
};

static int show(void *context, uint64_t done, uint64_t all)
{
    struct progress *progress = context;
    uint64_t now_ns = monotonic_ns();
    if (is_stopping())
        return 1;
    if (now_ns < progress->next_ns)
        return 0;
    progress->next_ns = now_ns + (progress->is_terminal ? ON_TERMINAL_NS : ON_PAPER_NS);
    (void)fprintf(stderr, "%sevbus: copying bus %s: %.1f of %.1f MiB%s", progress->is_terminal ? "\r" : "",
                  progress->bus, mebibytes(done), mebibytes(all), progress->is_terminal ? "\x1b[K" : "\n");
    (void)fflush(stderr);
    progress->has_line = progress->is_terminal;
    return 0;
}

/* What stands in the copy; nftw() has no context. */
static struct {
    uint64_t n_files;
    uint64_t bytes; /* of events */
} copied;

static int count(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    size_t len = strlen(path);
    (void)walk;
    if (kind == FTW_F) {
        ++copied.n_files;
        copied.bytes += len > 4 && strcmp(path + len - 4, ".seg") == 0 ? (uint64_t)found->st_size : 0;
    }
    return 0;
}

static void print_done(const struct args *args, const char *dir, const char *folder, uint64_t ns)
{
    (void)nftw(folder, count, 16, FTW_PHYS);
    if (args->json) {
        (void)printf("{\"bus\":");
        print_json(args->bus, strlen(args->bus));
        (void)printf(",\"folder\":");
        print_json(folder, strlen(folder));
        (void)printf(",\"bytes\":%" PRIu64 ",\"files\":%" PRIu64 ",\"ms\":%" PRIu64 "}\n", copied.bytes, copied.n_files,
                     ns / 1000000);
        return;
    }
    (void)printf("copied bus %s to ", args->bus);
    print_plain(folder, strlen(folder));
    (void)printf(": %.1f MiB of events, %" PRIu64 " files, in %.1f s; with the bus's memory gone EVBUS_STATE_DIR=",
                 mebibytes(copied.bytes), copied.n_files, (double)ns / 1e9);
    print_plain(dir, strlen(dir));
    (void)printf(" brings it back from there (man evbus, RESTORE)\n");
}

static int run(const struct args *args)
{
    struct evbus *bus = NULL;
    int exit_code = check_operands(args, 1, 1, usage);
    if (exit_code == EXIT_DONE) /* where nobody else keeps, somebody must bring to disk what is in memory */
        exit_code = open_bus(args, EVBUS_KEEPER_VOLUNTEER, &bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    uint64_t start_ns = monotonic_ns();
    struct progress progress = {.bus = args->bus, .is_terminal = isatty(STDERR_FILENO) == 1, .next_ns = start_ns};
    if (!progress.is_terminal)
        progress.next_ns += NS_PER_S;
    stop_on_signals();
    int rc = evbus_backup(bus, &(struct evbus_backup_options){.size = sizeof(struct evbus_backup_options),
                                                              .dir = args->operands[0],
                                                              .progress = show,
                                                              .context = &progress});
    if (progress.has_line)
        (void)fprintf(stderr, "\r\x1b[K");
    if (rc > 0)
        exit_code = complain(EXIT_TRY_AGAIN, "stopped; nothing is left of the copy");
    else if (rc != EVBUS_OK)
        exit_code = complain_of(rc, BLAME_COMMAND_LINE);
    evbus_close(bus);
    if (exit_code != EXIT_DONE)
        return exit_code;
    char *dir = realpath(args->operands[0], NULL);
    char *folder = NULL;
    if (dir == NULL || asprintf(&folder, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, args->bus) < 0)
        exit_code = complain(EXIT_IO, "%s: the copy is there, but cannot be found by that name", args->operands[0]);
    else
        print_done(args, dir, folder, monotonic_ns() - start_ns);
    free(folder);
    free(dir);
    return exit_code;
}

const struct command command_backup = {
    .name = "backup",
    .summary = "copy what a bus remembers, while all runs",
    .usage = usage,
    .text =
        "Copies the folder in which the bus remembers (EVBUS_STATE_DIR) to DIR/BUS: all that was published before, in\n"
        "logs with a journal, and what each group had done. Nobody waits for it. A copy is whole or not there, and is\n"
        "never written over: name another DIR each time. To go back to one: man evbus, RESTORE.",
    .examples = "evbus backup /mnt/backup/$(date -u +%FT%H%M)\n"
                "EVBUS_STATE_DIR=/mnt/backup/2026-02-01T0930 evbus stat # on another host: look into it",
    .run = run,
};
