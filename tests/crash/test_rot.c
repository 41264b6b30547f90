/* test_rot.c: a bit is flipped, or bytes are cut off, anywhere in any file of a bus that is on disk alone. It comes back, or says which
 * file is damaged; what is damaged is told by its position and kept, and all the rest is read. [guards DURABLE] */
#include "archive.h"
#include "await.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVENTS 400
#define FILES  64

/* A file as it was. */
struct kept {
    char path[300];
    const char *kind; /* "bus", "marks", "groups", "catalogue", "segment" */
    size_t len;
    uint8_t *bytes;
};

static struct kept kept[FILES];
static size_t n_kept;
static const char *const kinds[] = {"bus", "marks", "groups", "catalogue", "segment"};

static uint8_t *bytes_of(const char *path, size_t *out_len)
{
    *out_len = folder_len(path);
    FILE *file = fopen(path, "r");
    uint8_t *bytes = malloc(*out_len + 1);
    if (file == NULL || bytes == NULL) {
        free(bytes);
        return NULL;
    }
    cr_assert_eq(fread(bytes, 1, *out_len, file), *out_len);
    fclose(file);
    return bytes;
}

static int keep_one(const char *path, const struct stat *found, int kind, struct FTW *walk)
{
    (void)found;
    (void)walk;
    if (kind != FTW_F)
        return 0;
    struct kept *one = &kept[n_kept++];
    cr_assert_leq(n_kept, (size_t)FILES);
    snprintf(one->path, sizeof one->path, "%s", path);
    const char *name = strrchr(path, '/') + 1;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strncmp(name, kinds[i], strlen(kinds[i])) == 0 || (i == 4 && strstr(name, ".seg") != NULL))
            one->kind = kinds[i];
    cr_assert_not_null(one->kind, "what is %s?", path);
    one->bytes = bytes_of(path, &one->len);
    return 0;
}

/* The folder as it was, but for one file's bytes. */
static void put_back(const struct archive *archive, const struct kept *but, const uint8_t *bytes, size_t len)
{
    char command[600];
    snprintf(command, sizeof command, "cd %s/%s && rm -rf marks.* groups.*", archive->folder.path, archive->name);
    cr_assert_eq(system(command), 0);
    for (size_t i = 0; i < n_kept; i++) {
        const struct kept *one = &kept[i];
        cr_assert(truncate(one->path, 0) == 0 || !folder_len(one->path));
        folder_put(one->path, 0, one == but ? bytes : one->bytes, one == but ? len : one->len);
    }
}

static bool is_what_we_damaged(const char *path, const uint8_t *bytes, size_t len)
{
    size_t found_len;
    uint8_t *found = bytes_of(path, &found_len);
    bool is_same = found != NULL && found_len == len && memcmp(found, bytes, len) == 0;
    free(found);
    return is_same;
}

/* Reads all there is. Returns how many events; what is told as damaged must be told by its position. */
static unsigned read_all(struct evbus *bus, unsigned *out_told, uint64_t *out_lost)
{
    struct evbus_reader *reader = NULL;
    const char *pattern = "test.a.one";
    unsigned n = 0, next = 0;
    *out_told = 0;
    cr_assert_eq(evbus_reader_open(&reader, bus,
                                   &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                                  .patterns = &pattern,
                                                                  .n_patterns = 1,
                                                                  .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK);
    for (;;) {
        struct evbus_delivery delivery = {.size = sizeof delivery};
        int rc = evbus_reader_next(reader, &delivery, 0);
        if (rc == EVBUS_ECORRUPT || rc == EVBUS_EIO) {
            cr_assert_not_null(strstr(evbus_message(bus), "test.a/0"), "%s", evbus_message(bus));
            if (++*out_told > 1000 || rc == EVBUS_EIO)
                break;
            continue;
        }
        if (rc != EVBUS_OK)
            break;
        unsigned seq = archive_seq(delivery.payload);
        cr_assert(seq >= next && seq < EVENTS, "%u comes, %u was next", seq, next);
        next = seq + 1;
        n++;
    }
    *out_lost = evbus_reader_lost(reader);
    evbus_reader_close(reader);
    return n;
}

static unsigned n_lines;

static void count_line(void *context, enum evbus_level level, const char *line)
{
    (void)context;
    (void)level;
    cr_expect_not_null(strstr(line, "log=test.a partition=0"), "%s", line);
    n_lines++;
}

/* The same as a group, which has nobody to return an error to: its log tells. */
static unsigned read_as_group(const char *name, unsigned *out_told)
{
    struct evbus *bus = NULL;
    struct evbus_subscription *sub = NULL;
    const char *pattern = "test.a.one";
    unsigned n = 0, next = 0;
    n_lines = 0;
    cr_assert_eq(evbus_open(&bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                          .bus = name,
                                                          .service = "tester",
                                                          .keeper = EVBUS_KEEPER_NEVER,
                                                          .log = count_line,
                                                          .log_level = EVBUS_LOG_ERROR}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    cr_assert_eq(evbus_subscribe(&sub, bus,
                                 &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                   .group = "team",
                                                                   .patterns = &pattern,
                                                                   .n_patterns = 1,
                                                                   .from = EVBUS_FROM_EARLIEST}),
                 EVBUS_OK, "%s", evbus_message(bus));
    struct evbus_delivery delivery = {.size = sizeof delivery};
    for (; evbus_receive(sub, &delivery, 0) == EVBUS_OK; n++) {
        unsigned seq = archive_seq(delivery.payload);
        cr_assert(seq >= next && seq < EVENTS, "%u comes, %u was next", seq, next);
        next = seq + 1;
        cr_assert_eq(evbus_finish(sub, &delivery, EVBUS_DONE, NULL), EVBUS_OK);
    }
    evbus_unsubscribe(sub);
    evbus_close(bus);
    *out_told = n_lines;
    return n;
}

static uint64_t state;

static uint32_t dice(uint32_t n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33) % n;
}

/* One file of each kind in turn; its first bytes, which are fields, more often than the rest. */
static void try_one(struct archive *archive, unsigned i)
{
    const char *kind = kinds[i % 5];
    const struct kept *one;
    do
        one = &kept[dice((uint32_t)n_kept)];
    while (one->kind != kind || one->len == 0);
    bool is_cut = i % 3 == 0;
    size_t most = dice(2) == 0 && one->len > 700 ? 700 : one->len;
    size_t at = dice((uint32_t)most);
    uint8_t *bytes = malloc(one->len);
    cr_assert_not_null(bytes);
    memcpy(bytes, one->bytes, one->len);
    size_t len = is_cut ? at : one->len;
    if (!is_cut)
        bytes[at] ^= (uint8_t)(1u << dice(8));
    put_back(archive, one, bytes, len);
    char what[500];
    snprintf(what, sizeof what, "%.300s %s %zu", one->path, is_cut ? "cut at" : "flipped at", at);
    struct evbus *bus = archive_open(archive, false);
    if (bus == NULL) {
        const char *name = strrchr(one->path, '/') + 1;
        cr_expect(strcmp(kind, "segment") != 0 && strcmp(kind, "groups") != 0, "%s: %s", what, evbus_message(NULL));
        cr_expect(strstr(evbus_message(NULL), name) != NULL || strstr(evbus_message(NULL), "marks.*") != NULL,
                  "%s: it does not name the file: %s", what, evbus_message(NULL));
    } else {
        unsigned n_told = 0;
        uint64_t lost = 0;
        unsigned n = read_all(bus, &n_told, &lost);
        bool is_of_a = strstr(one->path, "/test.a/") != NULL;
        if (!is_of_a)
            cr_expect(n == EVENTS && n_told == 0, "%s: %u events, %u times told", what, n, n_told);
        else if (n < EVENTS)
            cr_expect(n_told > 0 || lost > 0, "%s: %u events, and nobody tells", what, n);
        if (is_of_a && !is_cut && at >= 4096)
            cr_expect_geq(n, EVENTS - 1, "%s: one frame at most", what);
        cr_expect_eq(read_as_group(archive->name, &n_told), n, "%s: a group reads other events than a reader", what);
        cr_expect(n == EVENTS || !is_of_a || n_told > 0, "%s: %u events, and the group tells nobody", what, n);
        evbus_close(bus);
    }
    char aside[320];
    snprintf(aside, sizeof aside, "%s.damaged", one->path);
    if (strcmp(kind, "bus") != 0 && strcmp(kind, "marks") != 0) /* these are written in turns */
        cr_expect(is_what_we_damaged(one->path, bytes, len) || is_what_we_damaged(aside, bytes, len),
                  "%s: it is not kept", what);
    unlink(aside);
    free(bytes);
    archive_forget_memory(archive);
}

Test(rot, is_told_and_kept_and_takes_nothing_else_with_it, .timeout = 290)
{
    const char *given = getenv("EVBUS_SEED");
    state = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)getpid() * 2654435761u;
    fprintf(stderr, "EVBUS_SEED=%" PRIu64 "\n", state);
    struct archive archive = archive_make((struct archive_options){.keeper = true});
    for (unsigned i = 0; i < EVENTS; i++) {
        cr_assert_eq(archive_publish(archive.bus, "test.a.one", i, 300 + i % 800), EVBUS_OK);
        if (i == EVENTS / 2) { /* another life: `bus` has two slots, the journal a gap */
            const struct ring *ring = archive_ring(archive.bus, "test.a");
            cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
            evbus_close(archive.bus);
            archive_forget_memory(&archive);
            archive.bus = archive_open(&archive, true);
            cr_assert_not_null(archive.bus, "%s", evbus_message(NULL));
        }
    }
    const struct ring *ring = archive_ring(archive.bus, "test.a");
    cr_assert(await_that(ring_synced(ring) == ring_tail(ring)));
    cr_assert(await_that(folder_count(&archive.folder, "") > 0));
    evbus_close(archive.bus);
    archive_forget_memory(&archive);
    nftw(archive.folder.path, keep_one, 16, FTW_PHYS);
    unsigned n = getenv("EVBUS_QUICK") != NULL || getenv("EVBUS_SLOW") != NULL ? 200
                 : getenv("EVBUS_SOAK") != NULL                                ? 20000
                                                                               : 2000;
    for (unsigned i = 0; i < n; i++)
        try_one(&archive, i);
    evbus_remove(archive.name);
}
