/* share_read.c: an entry's event, from the ring or the files. Checked by tests/unit/test_share.c. */
#include "share_entry.h"

/* A committed frame copied and parsed, from the ring or the files. */
enum share_read share_read(struct share *share, uint64_t pos, uint64_t *buffer, struct frame *out)
{
    uint64_t next;
    struct error err;
    int found = partition_fetch(&share->past, share->of->memory, share->ring, pos, buffer, &next, &err);
    report_unread(&share->report, found < 0, found < 0 ? err.text : "");
    if (found < 0)
        return SHARE_READ_FAILED;
    return found == PARTITION_FRAME && frame_parse(buffer, out, NULL) == EVBUS_OK ? SHARE_READ_EVENT : SHARE_READ_LOST;
}

void share_close(struct share *share)
{
    cursor_close(&share->cursor);
    partition_past_close(share->past);
    share->past = NULL;
}
