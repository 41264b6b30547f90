/* report.c: what a group's member leaves in writing: attempts that ended badly, events that it cannot read.
 *
 * A group has nobody to return an error to: a receive that times out does not say why. So what it cannot read is told by its handle's
 * log, by position; and of attempts a note is published, which dead letters and `evbus why` read (notes.c).
 * Checked by tests/unit/test_share.c, test_cursor.c, test_history.c. */
#include "report.h"

#include "clock.h"
#include "json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint64_t report_attempt(const struct report *report, const struct report_attempt *attempt, struct claim *claim,
                        uint64_t last)
{
    struct note note = {.partition = report->ring->partition,
                        .position = attempt->entry->pos,
                        .attempt = attempt->entry->attempts,
                        .cause = attempt->cause,
                        .at_ns = clock_wall_ns(),
                        .took_ns = attempt->took_ns,
                        .slot = attempt->slot};
    snprintf(note.group, sizeof note.group, "%s", report->group);
    snprintf(note.log, sizeof note.log, "%s", report->ring->name);
    snprintf(note.member, sizeof note.member, "%s", attempt->member);
    if (attempt->error != NULL) {
        size_t len = strnlen(attempt->error, NOTES_TEXT_MAX);
        memcpy(note.error, attempt->error, len);
        if (!json_is_utf8(note.error, len)) /* a handler's bytes; the letter is JSON */
            for (size_t i = 0; i < len; i++)
                note.error[i] = (note.error[i] & 0x80) != 0 ? '?' : note.error[i];
    }
    return notes_add(report->memory, claim, &note, attempt->id, last);
}

bool report_has(const struct report *report, const struct pending *entry, const uint8_t *id, uint64_t last)
{
    struct note note;
    return notes_read(report->memory, last, id, &note, 1) == 1 && note.position == entry->pos &&
           note.partition == report->ring->partition && note.attempt == entry->attempts &&
           strcmp(note.group, report->group) == 0 && strcmp(note.log, report->ring->name) == 0;
}

void report_lost(const struct report *report, uint64_t pos, const char *what)
{
    if (report->log != NULL)
        log_line(report->log, LOG_CORRUPT, EVBUS_LOG_ERROR,
                 "group=%s log=%s partition=%u position=%" PRIu64 " reason=\"%s\"", report->group, report->ring->name,
                 report->ring->partition, pos, what);
}

void report_unread(struct report *report, bool is_unread, const char *why)
{
    if (report->is_unread == is_unread)
        return;
    report->is_unread = is_unread;
    if (report->log != NULL)
        log_line(report->log, LOG_JOURNAL, is_unread ? EVBUS_LOG_ERROR : EVBUS_LOG_WARNING,
                 "state=%s group=%s log=%s partition=%u%s%s%s", is_unread ? "unreadable" : "readable", report->group,
                 report->ring->name, report->ring->partition, is_unread ? " reason=\"" : "", why,
                 is_unread ? "\"" : "");
}
