/* sealed.c: a file whose first line proves the rest.
 *
 *     evbus catalogue 1 6f1c2a9e-... 0f3a9c41      what it is, format, which bus, crc32c of all, with 00000000 here
 *     { "namespace": "lomash", ...
 *
 * People read it with less, and nothing in it can change unseen. Checked by tests/unit/test_sealed.c. */
#include "sealed.h"

#include "frame.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uuid.h>

#define SEALED_VERSION 1
#define LINE_MAX_BYTES 128
#define NO_CRC         "00000000"
#define CRC_DIGITS     (sizeof NO_CRC - 1)

/* Into memory of ours: json_dumps() leaves out a key for which it finds no room (jansson 2.14), and says that all is well. */
char *sealed_text(const json_t *value, size_t *out_len)
{
    const size_t flags = JSON_COMPACT | JSON_PRESERVE_ORDER;
    size_t len = json_dumpb(value, NULL, 0, flags);
    char *text = len > 0 ? malloc(len + 1) : NULL;
    if (text == NULL || json_dumpb(value, text, len, flags) != len) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    *out_len = len;
    return text;
}

int sealed_write(const char *path, const char *what, const uint8_t uuid[16], const char *bytes, size_t len,
                 struct error *err)
{
    char id[37];
    if (len > SEALED_BYTES_MAX - LINE_MAX_BYTES)
        return error_set(err, EVBUS_ELIMIT, "%s: %zu bytes, at most %u fit", path, len,
                         SEALED_BYTES_MAX - LINE_MAX_BYTES);
    char *all = malloc(LINE_MAX_BYTES + len);
    if (all == NULL)
        return error_no_memory(err, "%s", path);
    uuid_unparse_lower(uuid, id);
    int n = snprintf(all, LINE_MAX_BYTES, "evbus %s %d %s " NO_CRC "\n", what, SEALED_VERSION, id);
    memcpy(all + n, bytes, len);
    char digits[CRC_DIGITS + 1];
    snprintf(digits, sizeof digits, "%08" PRIx32, frame_crc(all, (size_t)n + len));
    memcpy(all + n - 1 - CRC_DIGITS, digits, CRC_DIGITS);
    int rc = file_replace(path, all, (size_t)n + len, err);
    free(all);
    return rc;
}

/* Writes over the checksum in the first line. */
static int check(const char *path, const char *what, const uint8_t uuid[16], char *all, size_t len, size_t *out_line,
                 struct error *err)
{
    char line[LINE_MAX_BYTES];
    char said[32] = "", id[40] = "";
    uuid_t found;
    unsigned version = 0;
    char digits[CRC_DIGITS + 1], crc[16] = "";
    char *end = memchr(all, '\n', len < sizeof line ? len : sizeof line - 1);
    if (end != NULL) {
        memcpy(line, all, (size_t)(end - all));
        line[end - all] = '\0';
    }
    if (end == NULL || sscanf(line, "evbus %31s %u %39s %15s", said, &version, id, crc) != 4 ||
        strcmp(said, what) != 0 || uuid_parse(id, found) != 0 || end - all < (ptrdiff_t)CRC_DIGITS)
        return error_set(err, EVBUS_ECORRUPT, "%s is damaged: its first line is not what evbus writes there", path);
    memcpy(end - CRC_DIGITS, NO_CRC, CRC_DIGITS);
    snprintf(digits, sizeof digits, "%08" PRIx32, frame_crc(all, len));
    if (strcmp(digits, crc) != 0)
        return error_set(err, EVBUS_ECORRUPT, "%s is damaged: its checksum is another", path);
    if (version > SEALED_VERSION)
        return error_set(err, EVBUS_ELAYOUT, "%s is of format %u, this build reads %d: use a newer evbus", path,
                         version, SEALED_VERSION);
    if (memcmp(found, uuid, sizeof found) != 0)
        return error_set(err, EVBUS_ECONFLICT, "%s is of another bus (%s): move it away", path, id);
    *out_line = (size_t)(end - all) + 1;
    return EVBUS_OK;
}

int sealed_read(const char *path, const char *what, const uint8_t uuid[16], char **out_bytes, size_t *out_len,
                struct error *err)
{
    char *all;
    size_t len, line = 0;
    int rc = file_read_all(path, SEALED_BYTES_MAX, &all, &len, err);
    if (rc != EVBUS_OK)
        return rc;
    if ((rc = check(path, what, uuid, all, len, &line, err)) != EVBUS_OK) {
        free(all);
        return rc;
    }
    memmove(all, all + line, len - line + 1);
    *out_bytes = all;
    *out_len = len - line;
    return EVBUS_OK;
}

bool sealed_whose(const char *path, const char *what, uint8_t out_uuid[16])
{
    char line[LINE_MAX_BYTES] = "", said[32] = "", id[40] = "";
    uuid_t found;
    size_t n;
    int fd;
    if (file_open(path, O_RDONLY, &fd, NULL) != EVBUS_OK)
        return false;
    int rc = file_read(fd, path, line, sizeof line - 1, 0, &n, NULL);
    close(fd);
    if (rc != EVBUS_OK || sscanf(line, "evbus %31s %*u %39s", said, id) != 2 || strcmp(said, what) != 0 ||
        uuid_parse(id, found) != 0)
        return false;
    memcpy(out_uuid, found, sizeof found);
    return true;
}
