/* applied.c: the catalogue as it was applied, and the ids that its topics were given, on disk.
 *
 *     catalogue     | first line (sealed.c) | the ids: one line of JSON | the text, verbatim |
 *
 * Frames name topics by ids, which are given once and never again. So an id is on disk before anybody may use it, and in one file with
 * the text, which is replaced as a whole. Checked by tests/unit/test_applied.c. */
#include "applied.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME "catalogue"

bool applied_is_there(const char *folder)
{
    char path[FILE_PATH_MAX];
    file_path(path, folder, NAME);
    return access(path, F_OK) == 0;
}

int applied_write(const char *folder, const uint8_t uuid[16], const struct applied *applied, struct error *err)
{
    char path[FILE_PATH_MAX];
    size_t ids_len = 0;
    char *ids = sealed_text(applied->ids, &ids_len);
    char *bytes = ids != NULL ? malloc(ids_len + 1 + applied->len) : NULL;
    if (bytes == NULL) {
        free(ids);
        return error_no_memory(err, "the catalogue's file");
    }
    memcpy(bytes, ids, ids_len);
    bytes[ids_len] = '\n';
    memcpy(bytes + ids_len + 1, applied->text, applied->len);
    file_path(path, folder, NAME);
    int rc = sealed_write(path, NAME, uuid, bytes, ids_len + 1 + applied->len, err);
    free(bytes);
    free(ids);
    return rc;
}

int applied_read(const char *folder, const uint8_t uuid[16], struct applied *out, struct error *err)
{
    char path[FILE_PATH_MAX];
    char *bytes;
    size_t len;
    file_path(path, folder, NAME);
    int rc = sealed_read(path, NAME, uuid, &bytes, &len, err);
    if (rc != EVBUS_OK)
        return rc;
    char *end = memchr(bytes, '\n', len);
    json_t *ids = end != NULL ? json_loadb(bytes, (size_t)(end - bytes), 0, NULL) : NULL;
    if (!json_is_object(ids)) {
        json_decref(ids);
        free(bytes);
        return error_set(err, EVBUS_ECORRUPT, "%s: its second line is not what evbus writes there", path);
    }
    size_t line = (size_t)(end - bytes) + 1;
    memmove(bytes, bytes + line, len - line + 1);
    *out = (struct applied){.ids = ids, .text = bytes, .len = len - line};
    return EVBUS_OK;
}

int applied_remove(const char *folder, struct error *err)
{
    char path[FILE_PATH_MAX];
    file_path(path, folder, NAME);
    if (unlink(path) != 0 && errno != ENOENT)
        return file_failed(err, path, "cannot remove it", errno);
    return file_sync_folder(folder, err);
}

void applied_free(struct applied *applied)
{
    json_decref(applied->ids);
    free(applied->text);
    *applied = (struct applied){.ids = NULL};
}
