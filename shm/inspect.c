/* inspect.c: what stands in a bus, as it stands there: alive or dead, whole or not.
 *
 *   reads    the files of the bus, by image.c: no mapping, no slot, no lock, no store
 *   trusts   nothing: see remains.c. What is not as an evbus would have left it is said (`differs`), and what can still be told
 *            is told
 *   order    the bus; its threads; log by log what stands in it; group by group what it has there
 * Checked by tests/unit/test_inspect.c, under ASan on any bytes and cut anywhere. */
#include <evbus/admin.h>

#include "bus.h"
#include "clock.h"
#include "inspect_group.h"
#include "inspect_ring.h"
#include "slot.h"
#include "uuid7.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define WORDS_SHOWN 4 /* at either end of a partition */

struct inspection {
    struct evbus_inspect_options options;
    struct remains remains;
    struct record out;
    struct remains_log logs[IMAGES_MAX]; /* those that are asked for */
    size_t n_logs;
    bool was_partition, was_frame; /* what was asked for has been shown */
};

/* --- the bus ------------------------------------------------------------------------------------------------------- */

static void compare_control(struct inspection *it)
{
    const struct control *control = it->remains.control;
    struct record *out = &it->out;
    if (it->remains.file == NULL) {
        record_differs(out, 0, "its control object is not there: threads and groups cannot be told");
        return;
    }
    if (it->remains.file->fd < 0)
        record_differs(out, 0, "%s: it cannot be read: %s", it->remains.file->file, strerror(it->remains.file->number));
    else if (it->remains.control_len < sizeof *control && it->remains.is_ours)
        record_differs(out, 0, "%s: the file has %" PRIu64 " bytes of %zu: what lies behind cannot be told",
                       it->remains.file->file, it->remains.file->len_bytes, sizeof *control);
    if (!it->remains.is_ours)
        record_differs(out, 0,
                       "another build of evbus made it: its layout is %#" PRIx64 ", this is %s with %#" PRIx64
                       ": only what stands in front of each object is told",
                       control->fingerprint, evbus_version(), LAYOUT_FINGERPRINT);
    else if (control->fingerprint != LAYOUT_FINGERPRINT && control->fingerprint != 0)
        record_differs(out, 0, "%s: its layout is %#" PRIx64 ", that of its logs %#" PRIx64, it->remains.file->file,
                       control->fingerprint, LAYOUT_FINGERPRINT);
    if (control->magic != CONTROL_MAGIC)
        record_differs(out, 0, "%s: it does not begin as a control object does (%#" PRIx64 ")", it->remains.file->file,
                       control->magic);
    if (strnlen(control->bus, sizeof control->bus) == sizeof control->bus || strcmp(control->bus, it->options.bus) != 0)
        record_differs(out, 0, "%s: it says that its bus is \"%.63s\"", it->remains.file->file, control->bus);
    if (!it->remains.is_ours || !remains_has(&it->remains, offsetof(struct control, seat)))
        return;
    if (remains_u32(&control->ready) != 1)
        record_differs(out, 0, "it is half made: its maker died, or is still at it");
    if (remains_u32(&control->retired) != 0)
        record_differs(out, 0, "it is retired: it was removed, or its name was gone");
    if (remains_u32(&control->n_logs) > LOGS_MAX)
        record_differs(out, 0, "it says that it has %u logs; %d is the most", remains_u32(&control->n_logs), LOGS_MAX);
}

static void show_bus(struct inspection *it)
{
    const struct control *control = it->remains.control;
    struct record *out = &it->out;
    char uuid[37];
    uuid7_format(control->uuid, uuid);
    record_begin(out, "bus", 0);
    record_word(out, "bus", it->options.bus);
    record_word(out, "folder", it->options.dir);
    record_word(out, "uuid", uuid);
    record_time(out, "created", control->created_ns);
    record_hex(out, "layout", control->fingerprint);
    if (it->remains.is_ours) {
        uint32_t keeper = HOLD_SLOT(remains_u32(&control->seat));
        const struct slot *slot = keeper != 0 ? remains_slot(&it->remains, keeper) : NULL;
        record_flag(out, "ready", remains_u32(&control->ready) == 1);
        record_flag(out, "retired", remains_u32(&control->retired) != 0);
        record_number(out, "generation", remains_u32(&control->generation));
        record_number(out, "logs", remains_u32(&control->n_logs));
        record_number(out, "publishers", remains_u32(&control->publishers));
        record_number(out, "burials", remains_u64(&control->burials));
        record_number(out, "slots_end", remains_u32(&control->slots_end));
        record_number(out, "keeper", keeper);
        if (slot != NULL)
            record_word(out, "keeper_is", remains_slot_state(slot));
        record_number(out, "admin", HOLD_SLOT(remains_u32(&control->admin)));
        record_number(out, "settler", HOLD_SLOT(remains_u32(&control->settler)));
    }
    if (strcmp(it->options.dir, "/dev/shm") == 0)
        record_position(out, "monotonic_ns", clock_mono_ns()); /* what times of groups compare with */
    record_end(out);
    compare_control(it);
}

static void show_slots(struct inspection *it)
{
    struct record *out = &it->out;
    for (uint32_t i = 1; i <= SLOTS_MAX && out->rc == 0; i++) {
        const struct slot *slot = remains_slot(&it->remains, i);
        uint32_t lock = slot != NULL ? remains_u32(slot_lock_word(slot)) : 0;
        if (slot == NULL || (!slot_is_used(slot) && lock == 0 && remains_u32(&slot->retired) == 0))
            continue;
        record_begin(out, "slot", 0);
        remains_tell_who(&it->remains, out, i);
        record_number(out, "tid", (uint32_t)atomic_load_explicit(&slot->tid, memory_order_relaxed));
        record_number(out, "pid_ns", remains_u64(&slot->pid_ns));
        record_time(out, "since", remains_u64(&slot->since_ns));
        record_number(out, "cancels", remains_u64(&slot->cancels));
        record_number(out, "cancels_in_row", remains_u32(&slot->cancels_in_row));
        record_hex(out, "lock", lock);
        record_position(out, "witness", remains_u64(&slot->witness));
        record_flag(out, "gone",
                    remains_u64(&slot->gone) != 0 && remains_u64(&slot->gone) == remains_u64(&slot->witness));
        record_flag(out, "retired", remains_u32(&slot->retired) != 0);
        record_flag(out, "keeper", HOLD_SLOT(remains_u32(&it->remains.control->seat)) == i);
        record_end(out);
    }
}

/* --- logs ---------------------------------------------------------------------------------------------------------- */

static void show_topics(struct inspection *it, const struct remains_log *log)
{
    uint32_t n = remains_u32(&log->head->n_topics);
    for (uint32_t id = 1; id <= n && remains_topic(log, id) != NULL && it->out.rc == 0; id++) {
        char groups[512];
        size_t len = 0;
        groups[0] = '\0';
        for (uint32_t g = 0; g < GROUPS_MAX; g++) {
            char name[SERVICE_BYTES];
            remains_group_name(&it->remains, g, name);
            if (remains_reads(log, g, id) && len + strlen(name) + 2 < sizeof groups) {
                groups[len] = ' ';
                memcpy(groups + len + (len > 0), name, strlen(name) + 1);
                len += strlen(name) + (len > 0);
            }
        }
        record_begin(&it->out, "topic", 1);
        record_word(&it->out, "log", log->file->part);
        record_number(&it->out, "id", id);
        record_text(&it->out, "topic", remains_topic(log, id), NAME_BYTES);
        if (log->head_len == sizeof *log->head)
            record_word(&it->out, "groups", groups);
        else
            record_none(&it->out, "groups");
        record_end(&it->out);
    }
}

static void show_sleepers(struct inspection *it, const struct remains_log *log)
{
    for (uint32_t i = 0; i < SLEEPERS_MAX && it->out.rc == 0; i++) {
        const struct sleeper *sleeper = &log->head->sleepers[i];
        bool is_asleep = (remains_u64(&log->head->sleeping[i / 64]) >> (i % 64) & 1) != 0;
        if (log->head_len < offsetof(struct log_head, sleepers) + (i + 1) * sizeof *sleeper)
            return;
        if (remains_u32(&sleeper->slot) == 0 && !is_asleep)
            continue;
        record_begin(&it->out, "sleeper", 1);
        record_word(&it->out, "log", log->file->part);
        record_number(&it->out, "place", i);
        remains_tell_who(&it->remains, &it->out, remains_u32(&sleeper->slot));
        record_flag(&it->out, "asleep", is_asleep);
        record_number(&it->out, "sleeps", remains_u32(&sleeper->sleeps));
        record_number(&it->out, "rung", remains_u32(&sleeper->rung));
        record_end(&it->out);
    }
}

static void compare_log(struct inspection *it, const struct remains_log *log)
{
    const char *part = log->file->part;
    const struct log_head *head = log->head;
    struct record *out = &it->out;
    if (head->magic != LOG_MAGIC)
        record_differs(out, 1, "%s: it does not begin as a log does (%#" PRIx64 ")", part, head->magic);
    if (it->remains.is_ours && head->fingerprint != LAYOUT_FINGERPRINT)
        record_differs(out, 1, "%s: its layout is %#" PRIx64 ", this build's %#" PRIx64, part, head->fingerprint,
                       LAYOUT_FINGERPRINT);
    if (remains_has(&it->remains, offsetof(struct control, created_ns)) &&
        memcmp(head->uuid, it->remains.control->uuid, sizeof head->uuid) != 0)
        record_differs(out, 1, "%s: it is of another bus, or of an earlier one of this name", part);
    if (log->index == LOGS_MAX && remains_has(&it->remains, offsetof(struct control, slots)))
        record_differs(out, 1, "%s: the control object does not name it", part);
    if (!it->remains.is_ours)
        return;
    if (strncmp(head->name, part, NAME_BYTES) != 0)
        record_differs(out, 1, "%s: it says that its name is \"%.*s\"", part, NAME_BYTES, head->name);
    if (head->n_cells != log->n_cells || head->n_partitions != log->n_partitions)
        record_differs(out, 1,
                       "%s: it says that it has %u partitions of %" PRIu64 " cells, which no log of its length has",
                       part, head->n_partitions, head->n_cells);
    if (remains_u32(&head->n_topics) > TOPICS_MAX)
        record_differs(out, 1, "%s: it says that it has %u topics; %d is the most", part, remains_u32(&head->n_topics),
                       TOPICS_MAX);
    uint64_t n_bytes = remains_log_bytes(log->n_cells, log->n_partitions);
    if (log->n_partitions != 0 && log->file->len_bytes < n_bytes)
        record_differs(out, 1, "%s: the file has %" PRIu64 " bytes of %" PRIu64 ": what lies behind cannot be told",
                       part, log->file->len_bytes, n_bytes);
}

static void show_log(struct inspection *it, const struct remains_log *log)
{
    record_begin(&it->out, "log", 0);
    record_word(&it->out, "log", log->file->part);
    record_word(&it->out, "file", log->file->file);
    record_number(&it->out, "bytes", log->file->len_bytes);
    record_number(&it->out, "partitions", log->n_partitions != 0 ? log->n_partitions : log->head->n_partitions);
    record_number(&it->out, "cells", log->n_partitions != 0 ? log->n_cells : log->head->n_cells);
    record_end(&it->out);
    compare_log(it, log);
    if (it->remains.is_ours) {
        show_topics(it, log);
        show_sleepers(it, log);
    }
}

static void show_rings(struct inspection *it, const struct remains_log *log)
{
    for (uint32_t p = 0; p < log->n_partitions && it->out.rc == 0; p++) {
        if (it->options.has_partition && p != it->options.partition)
            continue;
        struct remains_ring ring = remains_ring(&it->remains, log, p);
        it->was_partition = true;
        if (!ring.is_there)
            record_differs(&it->out, 1, "%s/%u: the file ends before it", log->file->part, p);
        else if (it->options.has_frame)
            it->was_frame = inspect_frame(&ring, it->options.frame, &it->out) || it->was_frame;
        else
            inspect_ring(&ring, it->options.words != 0 ? it->options.words : WORDS_SHOWN, &it->out);
    }
}

/* --- which of them -------------------------------------------------------------------------------------------------- */

/* As the control object counts them; LOGS_MAX: it does not name it. */
static uint32_t index_of(const struct remains *remains, const char *part)
{
    uint32_t n = remains_u32(&remains->control->n_logs);
    for (uint32_t i = 0; i < n && i < LOGS_MAX; i++)
        if (strncmp(remains->control->logs[i], part, NAME_BYTES) == 0)
            return i;
    return LOGS_MAX;
}

static void open_logs(struct inspection *it)
{
    struct remains *remains = &it->remains;
    for (size_t i = 0; i < remains->images.n; i++) {
        const struct image *file = &remains->images.of[i];
        struct remains_log *log = &it->logs[it->n_logs];
        if (file == remains->file || (it->options.log != NULL && strcmp(it->options.log, file->part) != 0))
            continue;
        if (remains_open_log(remains, file, index_of(remains, file->part), log)) {
            it->n_logs++;
            continue;
        }
        remains_close_log(log);
        record_differs(&it->out, 0, "%s: %s", file->file,
                       file->fd < 0           ? strerror(file->number)
                       : file->len_bytes == 0 ? "it is empty"
                                              : "it cannot be read");
    }
    uint32_t n = remains_u32(&remains->control->n_logs);
    for (uint32_t i = 0; remains->is_ours && i < n && i < LOGS_MAX; i++) {
        char name[NAME_BYTES];
        memcpy(name, remains->control->logs[i], sizeof name);
        name[NAME_BYTES - 1] = '\0';
        if (remains_has(remains, offsetof(struct control, slots)) && images_find(&remains->images, name) == NULL)
            record_differs(&it->out, 0, "its log %s is not there", name);
    }
    if (remains->images.were_more)
        record_differs(&it->out, 0, "there are more than %d files of this name: the rest is left out", IMAGES_MAX);
}

static void show_groups(struct inspection *it)
{
    struct remains *remains = &it->remains;
    for (uint32_t g = 0; g < GROUPS_MAX && it->out.rc == 0; g++) {
        char name[SERVICE_BYTES];
        bool is_used = remains_u32(&remains->control->groups[g].state) != GROUP_FREE;
        for (size_t l = 0; l < it->n_logs && !is_used; l++)
            is_used = remains_reads(&it->logs[l], g, 0); /* what a dead maker left */
        remains_group_name(remains, g, name);
        if (!is_used || (it->options.group != NULL && strcmp(it->options.group, name) != 0))
            continue;
        inspect_group(remains, g, it->logs, it->n_logs, it->options.has_partition ? it->options.partition : UINT32_MAX,
                      &it->out);
    }
}

static void show_all(struct inspection *it)
{
    const struct evbus_inspect_options *options = &it->options;
    bool is_narrow = options->log != NULL || options->group != NULL || options->has_partition || options->has_frame;
    show_bus(it);
    open_logs(it);
    if (it->remains.is_ours && !is_narrow)
        show_slots(it);
    for (size_t i = 0; i < it->n_logs && (options->group == NULL || options->has_frame); i++) {
        if (!options->has_frame)
            show_log(it, &it->logs[i]);
        show_rings(it, &it->logs[i]);
    }
    if (it->remains.is_ours && !options->has_frame)
        show_groups(it);
}

/* What is asked for by name and is not there. */
static int check_names(const struct inspection *it, struct error *err)
{
    const struct evbus_inspect_options *options = &it->options;
    bool has_group = options->group == NULL;
    for (uint32_t g = 0; g < GROUPS_MAX && !has_group; g++) {
        char name[SERVICE_BYTES];
        remains_group_name(&it->remains, g, name);
        has_group = strcmp(options->group, name) == 0;
    }
    if (!has_group)
        return error_set(err, EVBUS_ENOTFOUND, "bus %s has no group %s", options->bus, options->group);
    const struct image *log = options->log != NULL ? images_find(&it->remains.images, options->log) : NULL;
    if (options->log != NULL && (log == NULL || log == it->remains.file))
        return error_set(err, EVBUS_ENOTFOUND, "bus %s has no log %s", options->bus, options->log);
    return EVBUS_OK;
}

/* What was asked for by its number and has not been shown. */
static int check_numbers(const struct inspection *it, struct error *err)
{
    const struct evbus_inspect_options *options = &it->options;
    if (it->out.rc != 0)
        return it->out.rc;
    if (options->has_partition && options->group == NULL && !it->was_partition)
        return error_set(err, EVBUS_ENOTFOUND, "bus %s has no partition %u there", options->bus, options->partition);
    if (options->has_frame && !it->was_frame)
        return error_set(err, EVBUS_ENOTFOUND, "nothing of position %" PRIu64 " is left there", options->frame);
    return EVBUS_OK;
}

EVBUS_API int evbus_inspect(const struct evbus_inspect_options *given,
                            int (*each)(void *context, const struct evbus_record *record), void *context)
{
    struct error *err = error_of_thread();
    struct inspection *it = calloc(1, sizeof *it);
    int rc = EVBUS_OK;
    if (it == NULL)
        return error_no_memory(err, "a look at a bus");
    if (given != NULL)
        rc = bus_take_struct(&it->options, sizeof it->options, given, given->size, "struct evbus_inspect_options", err);
    if (rc == EVBUS_OK && each == NULL)
        rc = error_set(err, EVBUS_EINVAL, "each is NULL");
    it->options.bus = memory_bus_name(it->options.bus);
    it->options.dir = it->options.dir != NULL ? it->options.dir : "/dev/shm";
    it->out.each = each;
    it->out.context = context;
    if (rc == EVBUS_OK)
        rc = memory_check_name(it->options.bus, err);
    if (rc == EVBUS_OK)
        rc = remains_open(&it->remains, it->options.dir, it->options.bus, err);
    if (rc == EVBUS_OK) {
        rc = check_names(it, err);
        if (rc == EVBUS_OK) {
            show_all(it);
            rc = check_numbers(it, err);
        }
        for (size_t i = 0; i < it->n_logs; i++)
            remains_close_log(&it->logs[i]);
        remains_close(&it->remains);
    }
    free(it);
    return rc;
}
