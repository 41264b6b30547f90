/* guarantees.c: what stands behind each figure: who promises more pays for it, so times alone compare apples with stones.
 *
 *   durable        what is left when the machine loses its power, of what its sender was told is sent
 *   when full      what a sender meets that is quicker than its receivers
 *   groups         do several kinds of receivers get each event, and share it among their members, and say when they are done?
 *   after kill -9  of a sender, a receiver, or a daemon, in the middle of anything: does the rest go on, and what is lost?
 *   order          of what one sender sends, as one receiver sees it
 *
 * Where each word comes from:
 *   bare ring     limits.c: a word per cell, one writer, one reader, nobody looks after the dead
 *   evbus         README.md, "What holds", and its tests
 *   pipe          pipe(7): a write blocks while it is full; up to PIPE_BUF bytes are atomic; no reader left: EPIPE. What has been read is gone
 *   Unix stream   unix(7), socket(7): the same, with a buffer of SO_SNDBUF
 *   POSIX mq      mq_overview(7): kernel persistence, until shutdown; mq_send(3) blocks while it is full, and hands out the highest priority first,
 *                 the oldest of them first; what has been received is gone
 *   Boost         its manual, "Message Queue": in shared memory, send() blocks while it is full, ordered by priority. An interprocess_mutex is
 *                 not robust (sync/posix/mutex.hpp): who dies with it leaves it locked; the developers' list tells so in 2011/04 and 2017/02
 *   iceoryx       its C binding: both policies, and DISCARD_OLDEST_DATA unless both ends say otherwise; its overview: each subscriber gets all;
 *                 RouDi finds a dead process by its missing sign of life and takes its resources back. Its issues 1546 (2.0: a publisher
 *                 that dies within a push may leave the others in an endless loop) and 2193 (RouDi ends: a mutex's owner has died) are why not "yes"
 *   ZeroMQ        zmq_socket(3): PUSH blocks at its high water mark and deals out to its PULLs by turns; zmq_setsockopt(3): 1,000 messages at
 *                 each end, in the memory of these processes
 *   Aeron         its wiki, "Flow Control" and "Java Programming Guide": offer() tells BACK_PRESSURED; each subscription gets all, and a slow one
 *                 holds all of them up; the driver's publication.unblock.timeout skips what a dead publisher has claimed, after 15 s
 *   Redis         redis.io, "Persistence" (everysec: a second may be lost), "Streams": pending entries are claimed by others (XAUTOCLAIM);
 *                 a stream grows until it is trimmed or maxmemory is met
 *   NATS          docs.nats.io, "JetStream": told before it is synced, sync_interval two minutes; max_ack_pending holds consumers up, a sender's own
 *                 limit of unanswered messages holds it up; what is not acknowledged in ack_wait (30 s) is delivered again */
#include "peers.h"

static const struct guarantee {
    const char *name, *durable, *when_full, *groups, *after_kill, *order;
} guarantees[] = {
    {"bare ring of cells", "no", "sender waits", "no", "no: who waits for the dead waits for ever", "yes"},
    {"evbus, MEMORY, journal off", "no; all processes may die", "sender waits, or is told", "yes, with acks",
     "yes, at once; nothing is lost", "per key, retries included"},
    {"evbus, journal (default)", "all but the last 200 ms", "sender waits, or is told",
     "yes, with acks, from any past position", "yes, at once; nothing is lost", "per key, retries included"},
    {"evbus, ack disk", "all", "sender waits, or is told", "yes, with acks, from any past position",
     "yes, at once; nothing is lost", "per key, retries included"},
    {"pipe", "no", "sender waits", "no", "yes; what was read is lost, and all when no reader is left", "yes"},
    {"Unix stream", "no", "sender waits", "no", "yes; what its receiver had is lost with it", "yes"},
    {"POSIX mq", "no; all processes may die", "sender waits", "no: one queue, each event once",
     "yes; what was received is lost", "within a priority"},
    {"Boost message_queue", "no; all processes may die", "sender waits", "no: one queue, each event once",
     "no: its lock stays locked; what was received is lost", "within a priority"},
    {"iceoryx", "no", "oldest lost; sender waits where both say so (here)", "no: each subscriber gets all, no acks",
     "mostly: RouDi takes back what the dead held, seconds later; what was received is lost", "per publisher"},
    {"ZeroMQ ipc", "no", "sender waits (PUSH)", "no: dealt out among receivers, no acks",
     "yes; what waits in the dead process is lost", "per sender and receiver"},
    {"Aeron IPC", "no (its Archive is another product)", "sender is told", "no: each subscription gets all, no acks",
     "yes, after up to 15 s; what was received is lost", "per publication"},
    {"Redis Streams, appendonly off", "no", "no: grows until memory is full", "yes, with acks",
     "clients: yes, others claim what was theirs; the server: all is lost", "yes, but for what is delivered again"},
    {"Redis Streams, everysec", "all but the last second", "no: grows until memory is full", "yes, with acks",
     "clients: yes, others claim what was theirs; the server: after its restart",
     "yes, but for what is delivered again"},
    {"Redis Streams, always", "all", "no: grows until memory is full", "yes, with acks",
     "clients: yes, others claim what was theirs; the server: after its restart",
     "yes, but for what is delivered again"},
    {"NATS JetStream, file", "all but the last 2 minutes", "sender waits for answers", "yes, with acks",
     "clients: yes, after 30 s; the server: after its restart", "yes, but for what is delivered again"},
};

void guarantees_print(FILE *to)
{
    fputs("| who | durable | when full | groups | after kill -9 | order |\n|---|---|---|---|---|---|\n", to);
    for (size_t i = 0; i < sizeof guarantees / sizeof guarantees[0]; i++) {
        const struct guarantee *row = &guarantees[i];
        fprintf(to, "| %s | %s | %s | %s | %s | %s |\n", row->name, row->durable, row->when_full, row->groups,
                row->after_kill, row->order);
    }
}
