/* archive.h: a bus of the test's own that remembers, in a folder of the test's own; and what its files hold. */
#ifndef ARCHIVE_H
#define ARCHIVE_H

#include "bus.h"
#include "folder.h"
#include "writer.h"

#include <evbus/admin.h>

/* Logs test.a (topic test.a.one, groups team) and test.b (topic test.b.one), one partition each unless the catalogue says otherwise. */
struct archive {
    char name[64]; /* of the bus */
    struct folder folder;
    struct evbus *bus; /* service "tester" */
};

struct archive_options {
    const char *ring;     /* NULL: "16KiB", whose files have 4096 cells */
    const char *settings; /* more of `defaults`, as "\"ack\":\"disk\",", or NULL */
    bool keeper;          /* our handle's thread volunteers; else the test calls writer_look() itself */
};

struct archive archive_make(struct archive_options options);

/* Another handle. NULL: the message is evbus_message(NULL)'s. */
struct evbus *archive_open(const struct archive *archive, bool keeper);

/* Its memory is lost, as by a restart of the host: no handle may be open. */
void archive_forget_memory(const struct archive *archive);

/* Publishes {"seq":<seq>} with padding to len bytes on a topic, waiting for room. EVBUS_OK or what evbus_publish() said. */
int archive_publish(struct evbus *bus, const char *topic, unsigned seq, size_t len);
unsigned archive_seq(const char *payload);

/* Reads test.a.one from earliest until nothing more comes: seqs must rise from 0 on without a gap. Returns how many; a message where one
 * is missing. */
unsigned archive_read(struct evbus *bus, uint64_t *out_lost);

/* A member of a group; and the next event for it, within 10 s: its seq. */
struct evbus_subscription *archive_join(struct evbus *bus, const char *group);
unsigned archive_receive(struct evbus_subscription *sub, struct evbus_delivery *out);

/* Its first ring. */
struct ring *archive_ring(const struct evbus *bus, const char *log);

/* A writer of the test's own, and one look with it. */
struct writer *archive_writer(struct evbus *bus, uint32_t number);
enum writer_did archive_look(struct writer *writer);

#endif
